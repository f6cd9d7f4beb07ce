"""Feeds every reader of Compass with damaged and made-up input: `python -m benchmarks.fuzz [--inputs N] [--seed S] [--readers …]`.

Every input ends in values that stand in it, or in one of Compass's own errors, in one line. See `judging.py` for the rules that
an input may break, and `docs/reliability.md` for figures. Input `number` of a reader depends on nothing but the seed:
`--readers NAME --only NUMBER` repeats it. `--guided` follows the coverage of the readers, with atheris. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz.judging import GOOD, VERDICTS, FuzzedReader
from benchmarks.fuzz.record_readers import made_files, record_readers
from benchmarks.fuzz.running import Tally, made_input, n_special, run_all
from benchmarks.fuzz.settings_readers import settings_readers
from benchmarks.fuzz.structure_readers import structure_readers
from benchmarks.fuzz.table_readers import table_readers

N_INPUTS, N_QUICK, SEED = 100_000, 12_000, 25
SHOWN = 40
"""Most failures that are printed."""


@dataclass(frozen=True)
class Fuzzing:
    """What became of all inputs."""

    tallies: dict[str, Tally]
    seed: int
    took_s: float

    @property
    def n_inputs(self) -> int:
        """All inputs."""
        return sum(sum(tally.counts.values()) for tally in self.tallies.values())

    @property
    def n_bad(self) -> int:
        """Inputs that broke a rule."""
        return sum(tally.n_bad for tally in self.tallies.values())


def all_readers() -> list[FuzzedReader]:
    """Every reader; the files that Compass writes itself are made first, which takes some seconds."""
    return [*structure_readers(), *table_readers(), *record_readers(made_files()), *settings_readers()]


def fuzz(readers: Sequence[FuzzedReader], n_inputs: int, seed: int, *, special: bool = True) -> Fuzzing:
    """Give `readers` about `n_inputs` inputs in all, by their weights; every special input at least, unless it is left out."""
    total, started = sum(reader.weight for reader in readers), time.monotonic()
    amounts = [max(n_special(one) if special else 0, round(n_inputs * one.weight / total)) for one in readers]
    with tempfile.TemporaryDirectory() as folder:
        tallies = run_all(readers, amounts, seed, Path(folder))
    return Fuzzing(tallies, seed, time.monotonic() - started)


def print_table(found: Fuzzing) -> None:
    """A row for each reader, and the first failures."""
    print(f"{'':<24}{'inputs':>10}" + "".join(f"{kind:>10}" for kind in VERDICTS))
    for name, tally in found.tallies.items():
        print(
            f"{name:<24}{sum(tally.counts.values()):>10,}" + "".join(f"{tally.counts[kind]:>10,}" for kind in VERDICTS)
        )
    failures = [(name, *failure) for name, tally in found.tallies.items() for failure in tally.failures]
    seen: set[tuple[str, str]] = set()
    for name, number, kind, detail in failures:
        where = name, detail.rpartition("[")[2] or detail[:30]
        if where not in seen and len(seen) < SHOWN:
            seen.add(where)
            print(f"FAILED {name} {number}: {kind} {detail}")


def repeat(reader: FuzzedReader, seed: int, number: int) -> None:
    """Show input `number` of a reader, and what becomes of it here."""
    data = made_input(reader, seed, number)
    print(f"{len(data)} bytes: {data[:3000]!r}")
    try:
        print(repr(reader.read(data))[:2000])
    except Exception:  # noqa: BLE001 - to be shown
        traceback.print_exc()


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, and print the table and one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=N_INPUTS, help="in all readers together")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--readers", nargs="*", default=[], metavar="NAME", help="those whose names begin so")
    parser.add_argument("--quick", action="store_true", help=f"{N_QUICK:,} inputs: the part that runs as a test")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="repeat one input of one reader")
    parser.add_argument("--guided", type=int, metavar="SECONDS", help="follow the coverage for so long, with atheris")
    given = parser.parse_args(arguments)
    readers = [one for one in all_readers() if not given.readers or one.name.startswith(tuple(given.readers))]
    if given.only is not None:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            repeat(readers[0], given.seed, given.only)
        return 0
    if given.guided is not None:
        from benchmarks.fuzz.guided import guide

        return guide(readers, given.guided, given.seed)
    found = fuzz(readers, N_QUICK if given.quick else given.inputs, given.seed)
    print_table(found)
    rows = {name: {kind: n for kind, n in tally.counts.items() if n} for name, tally in found.tallies.items()}
    bad = {kind: sum(row.get(kind, 0) for row in rows.values()) for kind in VERDICTS if kind not in GOOD}
    print(
        json.dumps(
            {"inputs": found.n_inputs, "seed": found.seed, "took_s": round(found.took_s, 1), "readers": rows, **bad}
        )
    )
    return int(found.n_bad > 0)


if __name__ == "__main__":
    sys.exit(main())
