"""Inputs in batches, each batch in a forked process: a reader that ends its process ends one input, and is named."""

from __future__ import annotations

import json
import logging
import mmap
import os
import resource
import signal
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.fuzz.judging import GOOD, MIB, MOST_WAITING_S, VERDICTS, FuzzedReader, Meter, verdict_on
from benchmarks.fuzz.places import PLACES, put

BATCH = 2_000
N_PROCESSES = 2
_COUNTS = struct.Struct(f"<q{len(VERDICTS)}q")
"""Shared with the parent: the number of the present input, then the inputs of each verdict."""
_FUSE_BYTES = 3 << 29
"""A process may add this much data before the kernel refuses it more: the machine must not swap."""
_SILENCE_S = 2 * MOST_WAITING_S
"""A process that is on one input for so long hangs where no signal reaches it."""


@dataclass
class Tally:
    """The verdicts of one reader."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str, str]] = field(default_factory=list)
    """(number of the input, verdict, detail)."""
    busy_s: float = 0.0

    @property
    def n_bad(self) -> int:
        """Inputs that broke a rule."""
        return sum(n for kind, n in self.counts.items() if kind not in GOOD)


@dataclass
class _Batch:
    reader: FuzzedReader
    first: int
    end: int
    shared: mmap.mmap
    pid: int = 0
    number: int = -1
    since_s: float = 0.0
    began_s: float = 0.0


def n_special(reader: FuzzedReader) -> int:
    """Inputs that come before those that are drawn: other things than files, then bombs."""
    return (len(PLACES) if reader.read_place else 0) + len(reader.special)


def made_input(reader: FuzzedReader, seed: int, number: int) -> bytes:
    """Input `number` of a reader: the same for the same seed. Those of `places` have none."""
    n_places = len(PLACES) if reader.read_place else 0
    if number < n_places:
        return b""
    if number < n_places + len(reader.special):
        return reader.special[number - n_places]()
    chance = Random(zlib.crc32(f"{seed} {reader.name} {number}".encode()) ^ number << 32)
    return reader.change(chance.choice(reader.seeds), chance)


def judge_input(reader: FuzzedReader, seed: int, number: int, meter: Meter) -> tuple[str, str]:
    """(verdict, detail) of input `number`."""
    if reader.read_place and reader.path and number < len(PLACES):
        with put(PLACES[number], reader.path):
            return verdict_on(reader, reader.read_place, None, meter)
    data = made_input(reader, seed, number)
    return verdict_on(reader, lambda: reader.read(data), data, meter)


def run_all(readers: Sequence[FuzzedReader], amounts: Sequence[int], seed: int, folder: Path) -> dict[str, Tally]:
    """The verdicts on `amounts` inputs of each of `readers`, by two processes at a time."""
    tallies = {reader.name: Tally() for reader in readers}
    waiting = list(_batches(readers, amounts))[::-1]
    running: list[_Batch] = []
    while waiting or running:
        while waiting and len(running) < N_PROCESSES:
            running.append(_started(waiting.pop(), seed, folder))
        time.sleep(0.01)
        for batch in list(running):
            ended, status = os.waitpid(batch.pid, os.WNOHANG)
            hangs = not ended and _is_silent(batch)
            if hangs:
                os.kill(batch.pid, signal.SIGKILL)
                _, status = os.waitpid(batch.pid, 0)
            if ended or hangs:
                running.remove(batch)
                waiting += _taken_in(batch, tallies[batch.reader.name], status, folder, hangs=hangs)
                if not any(one.reader is batch.reader for one in (*waiting, *running)):
                    tally = tallies[batch.reader.name]
                    print(
                        f"{batch.reader.name}: {dict(tally.counts)}, {tally.busy_s:.0f} s", file=sys.stderr, flush=True
                    )
    return tallies


def _batches(readers: Sequence[FuzzedReader], amounts: Sequence[int]) -> Iterator[_Batch]:
    for reader, amount in zip(readers, amounts, strict=True):
        for first in range(0, amount, BATCH):
            yield _Batch(reader, first, min(first + BATCH, amount), mmap.mmap(-1, _COUNTS.size))


def _started(batch: _Batch, seed: int, folder: Path) -> _Batch:
    batch.pid, batch.began_s = os.fork(), time.monotonic()
    batch.since_s = batch.began_s
    if batch.pid == 0:
        status = 70
        try:
            _work(batch, seed, folder)
            status = 0
        finally:
            os._exit(status)
    return batch


def _work(batch: _Batch, seed: int, folder: Path) -> None:
    """The child: one input after another."""
    logging.disable(logging.CRITICAL)
    own = folder / str(os.getpid())
    own.mkdir()
    os.chdir(own)  # readers of files keep theirs in the working folder, each process its own
    with open(os.devnull, "w") as nothing:  # noqa: PTH123 - for its descriptor
        os.dup2(nothing.fileno(), 2)
        os.dup2(nothing.fileno(), 1)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + _FUSE_BYTES, hard))
    meter, counts = Meter(), [0] * len(VERDICTS)
    with (folder / f"{os.getpid()}.failures").open("w", buffering=1) as failures:
        for number in range(batch.first, batch.end):
            batch.shared[:] = _COUNTS.pack(number, *counts)
            kind, detail = judge_input(batch.reader, seed, number, meter)
            counts[VERDICTS.index(kind)] += 1
            if kind not in GOOD:
                failures.write(json.dumps([number, kind, detail]) + "\n")
    batch.shared[:] = _COUNTS.pack(batch.end, *counts)


def _data_bytes() -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next((int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("VmData")), 64 * MIB)


def _is_silent(batch: _Batch) -> bool:
    number, *_ = _COUNTS.unpack(batch.shared[:])
    if number != batch.number:
        batch.number, batch.since_s = number, time.monotonic()
    return time.monotonic() - batch.since_s > _SILENCE_S


def _taken_in(batch: _Batch, tally: Tally, status: int, folder: Path, *, hangs: bool) -> Iterable[_Batch]:
    """Add a batch's verdicts to its reader's; yields what is left of it if one input ended the process."""
    number, *counts = _COUNTS.unpack(batch.shared[:])
    tally.counts.update({kind: n for kind, n in zip(VERDICTS, counts, strict=True) if n})
    tally.busy_s += time.monotonic() - batch.began_s
    path = folder / f"{batch.pid}.failures"
    if path.exists():
        new = [(n, kind, detail) for n, kind, detail in map(json.loads, path.read_text().splitlines())]
        tally.failures += new
        for failure in new[:3]:  # at once, for runs of hours
            print(f"{batch.reader.name}:", *failure, file=sys.stderr, flush=True)
        path.unlink()
    batch.shared.close()
    if status == 0:
        return
    kind = "hung" if hangs else "died"
    tally.counts[kind] += 1
    tally.failures.append((number, kind, "" if hangs else f"wait status {status}"))
    if number + 1 < batch.end:
        yield _Batch(batch.reader, number + 1, batch.end, mmap.mmap(-1, _COUNTS.size))
