"""One try: a run, a fault at a random moment, the rules, the run that goes on to its end, and the rules again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from benchmarks.faults import kinds, rules
from benchmarks.faults.kinds import Kind
from benchmarks.faults.processes import TIMEOUT_S, Running, launch
from benchmarks.faults.rules import Finding
from benchmarks.faults.targets import Target
from compass.temporary import PREFIX

ATTEMPTS = 8
"""Before a kind of fault counts as impossible here: the command may end before its moment, or have no such process."""
EARLIEST, LATEST = 0.02, 0.98
"""The moment of a fault, as a share of the undisturbed run."""
BAD_INPUT = 2
AGED_S = 120.0


class Try:
    """The faults of one kind in a run of one command, until it has gone on to its end."""

    def __init__(self, target: Target, kind: Kind, folder: Path, draw: random.Random) -> None:
        self.target, self.kind, self.folder, self._draw = target, kind, folder, draw
        self.findings: list[Finding] = []
        self.n_faults = 0
        self._n_starts = 0
        self._damaged = ""
        self._before: Any = None
        """What was finished at the moment of the fault."""
        self._at_start: Any = None
        """What was finished when the latest start began."""
        self._places = ExitStack()

    def run(self) -> None:
        """Make the try; its folder is deleted if nothing was found."""
        with self._places:
            self._begin()
            n_wanted = 1 if self.kind.damage else self.target.chain
            for _ in range(ATTEMPTS):
                if self.n_faults < n_wanted and not self._fault():
                    if self.n_faults:
                        break
                    self._begin()
            if self.n_faults:
                self._go_on()
        if not self.findings:
            shutil.rmtree(self.folder)

    def _begin(self) -> None:
        """An empty place for the run."""
        self._places.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        work = self.folder / "work"
        if self.kind.place in {"disk full", "read-only"}:
            self._places.enter_context(kinds.small_disk(work))
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        self.target.begin(work)

    # ---------------------------------------------------------------------------------------------------------- the fault

    def _fault(self) -> bool:
        """Start the command and let the fault happen; False if it ended before."""
        moment_s = self._draw.uniform(EARLIEST, LATEST) * self.target.undisturbed_s
        running = self._start(moment_s)
        if running.wait(moment_s) and self.kind.place != "clock" and not self.kind.damage:
            return self._ended_early(running)
        self._before = self.target.state()
        if self.kind.signal:
            happened = self._signalled(running)
        elif self.kind.damage:
            happened = self._damaged_after(running)
        else:
            happened = self._at_its_place(running)
        if happened:
            self.n_faults += 1
            if not self._damaged:  # what is damaged is judged after the next start
                self.findings += self.target.judge_fault(self._before)
        return happened

    def _start(self, moment_s: float) -> Running:
        settings = self.target.settings(again=self._n_starts > 0)
        settings = kinds.with_clock(self.kind, settings, moment_s, self._draw)
        self._at_start = self.target.state()
        return self._launch(settings)

    def _launch(self, settings: Any) -> Running:
        self._n_starts += 1
        self._age_temporary_folders()
        return launch(settings, self.folder / f"start-{self._n_starts}", self.target.environment(self.folder / "tmp"))

    def _ended_early(self, running: Running) -> bool:
        """It was too late for the fault; what ended must have ended well."""
        self._judge_start(running, {0})
        return False

    def _signalled(self, running: Running) -> bool:
        happened = [False]

        def send() -> bool:
            happened[0] = happened[0] or kinds.send(self.kind, running, self._draw)
            return happened[0]

        running.wait(self.target.undisturbed_s, until=send)
        running.wait(TIMEOUT_S)
        is_done = (
            running.code == 0
        )  # even if the signal came: so late that the work was done, or to a process that is replaced
        codes = kinds.expected_codes(self.kind, takes_term=self.target.ends_on_term) | self._codes_of_children()
        self._judge_start(running, {0} if is_done or not happened[0] else codes)
        if is_done:
            self.findings += self.target.judge_end(self._at_start, "")
        return happened[0]

    def _codes_of_children(self) -> frozenset[int]:
        """What the command may end with besides, because one of its processes was ended."""
        return (
            self.target.ends_on_death if self.kind.whom != "parent" and self.kind.signal != "SIGSTOP" else frozenset()
        )

    def _damaged_after(self, running: Running) -> bool:
        """Damage a file after the start was killed or, where that says something, has ended."""
        if self.target.damaged_when_finished and self._draw.random() < 1 / 2:
            running.wait(TIMEOUT_S)
            self._judge_start(running, {0})
        else:
            running.signal(signal.SIGKILL)
            running.wait(TIMEOUT_S)
            self._judge_start(running, {0, -signal.SIGKILL})
        files = list(self.target.damageable.items())
        self._draw.shuffle(files)
        for name, path in files:
            if kinds.damage(path, self.kind.damage, self._draw):
                self._damaged = name
                self._before = self.target.state()
                return True
        return False

    def _at_its_place(self, running: Running) -> bool:
        if self.kind.place == "disk full":
            filler = kinds.fill(self.target.work)
            running.wait(TIMEOUT_S)
            filler.unlink()
        elif self.kind.place == "read-only":
            with kinds.read_only(self._draw.choice([path for path in self.target.work.iterdir() if path.is_dir()])):
                running.wait(TIMEOUT_S)
        elif self.kind.place == "two at once":
            second = self._launch(self.target.settings(again=self._draw.random() < 1 / 2))
            second.wait(TIMEOUT_S)
            self._judge_start(second, {0, BAD_INPUT})
        self._judge_start(running, kinds.expected_codes(self.kind, takes_term=self.target.ends_on_term))
        return True

    # ----------------------------------------------------------------------------------------------------------- the rules

    def _judge_start(self, running: Running, codes: set[int], *, is_undisturbed: bool = False) -> None:
        """The rules that hold for every start that has ended, or that should have."""
        if not running.wait(TIMEOUT_S):
            self.findings.append(("hangs", f"still there after {TIMEOUT_S:.0f} s: {running.said()[-600:]}"))
            running.kill()
            return
        said = running.said()
        self.findings += [("orphans", line) for line in running.leftovers()]
        if is_undisturbed or not self.target.under_torchrun:
            self.findings += rules.tracebacks(said)
            self.findings += rules.exit_code(running.code, codes, said)

    def _go_on(self) -> None:
        """The run that goes on to its end, or where a damaged file is refused, the one that the refusal names."""
        running = self._launch(self.target.settings(again=True))
        running.wait(TIMEOUT_S)
        way_out = self.target.way_out(self._damaged) if self._damaged else None
        refused = running.code == BAD_INPUT and way_out is not None
        self._judge_start(running, {BAD_INPUT} if refused else {0}, is_undisturbed=True)
        if refused and way_out is not None:
            running = self._launch(way_out)
            self._judge_start(running, {0}, is_undisturbed=True)
        self.findings += self.target.judge_end(self._before, self._damaged)
        self.findings += rules.litter(self.target.work, self.folder / "tmp", was_killed=True)

    def _age_temporary_folders(self) -> None:
        """Let a minute pass for the folders of killed processes: the next process removes those that are no younger."""
        long_ago_s = time.time() - AGED_S
        with suppress(FileNotFoundError):  # a process that is ending removes its own
            for lock in (self.folder / "tmp").glob(f"{PREFIX}*/*"):
                os.utime(lock, (long_ago_s, long_ago_s))


def measure_undisturbed(target: Target, folder: Path) -> Iterator[Finding]:
    """Run the command twice without a fault: to keep its end state, and to know how long it takes."""
    for number in (1, 2):
        target.begin(folder / "work")
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        began_s, before = time.monotonic(), target.state()
        running = launch(target.settings(again=False), folder / f"start-{number}", target.environment(folder / "tmp"))
        running.wait(TIMEOUT_S)
        target.undisturbed_s = time.monotonic() - began_s
        yield from rules.exit_code(running.code, {0}, running.said())
        yield from rules.tracebacks(running.said())
        if target.expected is None:
            target.remember()
        else:
            yield from target.judge_end(before, "")
        yield from rules.litter(target.work, folder / "tmp", was_killed=target.under_torchrun)
        shutil.rmtree(folder)
