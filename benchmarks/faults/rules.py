"""The rules that every try is judged by. Each returns what it found against the rule, in words; nothing is what it should be."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from compass.errors import CompassError
from compass.probe.store import LEDGER, read_ledger
from compass.profile import read_profile
from compass.records import Status

RULES = ("lost", "orphans", "profiles", "weights", "litter", "tracebacks", "exit codes", "tables", "hangs")
"""What may be lost: finished probes or readings, processes that stay, wrong profiles, other weights, files left behind,
tracebacks, exit codes that the documentation does not name, rows lost or doubled, and starts that do not end."""

Finding = tuple[str, str]
"""(rule, what was found)."""

OF_OTHERS = ("torchelastic_", "pymp-", "torch_geometric.")
"""Beginnings of temporary files of torchrun, Python's multiprocessing and PyTorch Geometric, which they leave when they are killed."""


OF_FORKS = "Exception ignored in: <function _releaseLock"
"""Python loses an interrupt that comes just when a process forks, as only the harness's own pools do: those of Compass spawn."""


def tracebacks(said: str) -> Iterator[Finding]:
    """Tracebacks on stderr."""
    n_own = said.count(OF_FORKS)
    n_ignored, n_tracebacks = said.count("Exception ignored"), said.count("Traceback (most recent call last)")
    if max(n_ignored, n_tracebacks) > n_own:
        yield "tracebacks", said[-1500:]


def exit_code(code: int | None, allowed: Iterable[int], said: str) -> Iterator[Finding]:
    """An exit code that is not expected here."""
    if code not in set(allowed):
        yield "exit codes", f"{code}, expected {sorted(set(allowed))}: {said[-600:]}"


def stopped_by(number: int, documented: int) -> set[int]:
    """The exit codes of a command that a signal ended: the signal itself, as shells show it, or the documented code."""
    return {-number, documented} if number != signal.SIGINT else {documented}


def litter(*folders: Path, was_killed: bool) -> Iterator[Finding]:
    """Temporary files of half-done work; where something was killed, those of other programs do not count."""
    for folder in folders:
        found = [path for path in folder.rglob("*") if _is_litter(path, folder)]
        if was_killed:
            found = [path for path in found if not path.relative_to(folder).parts[0].startswith(OF_OTHERS)]
        if found:
            yield "litter", ", ".join(str(path.relative_to(folder.parent)) for path in found[:8])


def _is_litter(path: Path, folder: Path) -> bool:
    """Everything in a folder of temporary files; elsewhere, names of files that are being written."""
    name = path.name
    return folder.name == "tmp" or name.startswith(".") or path.suffix in {".part", ".tmp"} or "-journal" in name


def finished_probes(ledger_folder: Path) -> Counter[tuple[str, str]]:
    """How often each probe of the ledger was finished, by fingerprint and question."""
    path = ledger_folder / LEDGER
    if not path.exists():
        return Counter()
    return Counter(
        (key, spec.key)
        for key, spec, outcome in read_ledger(path).entries
        if outcome.ok or (outcome.status is Status.OUT_OF_MEMORY and outcome.enforced)
    )


def lost_probes(
    before: Counter[tuple[str, str]], after: Counter[tuple[str, str]], undisturbed: Counter[tuple[str, str]]
) -> Iterator[Finding]:
    """Probes that were finished before the fault, and are gone or were made again without need."""
    gone = sum((before - after).values())
    again = sum(
        count > max(before[question], undisturbed[question] or before[question] + 1)
        for question, count in after.items()
        if question in before
    )
    if gone or again:
        yield "lost", f"{gone} of {sum(before.values())} finished probes are gone, {again} were made again"


def whole_profile(path: Path) -> Iterator[Finding]:
    """A profile that is there but cannot be read."""
    if path.exists():
        try:
            read_profile(path)
        except CompassError as error:
            yield "profiles", str(error)
