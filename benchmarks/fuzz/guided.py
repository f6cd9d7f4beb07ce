"""Inputs that follow the coverage of a reader: atheris (libFuzzer) in a process for each, with the same rules."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module
from inspect import isclass, isfunction
from pathlib import Path
from typing import Any

from benchmarks.fuzz.judging import GOOD, FuzzedReader, Meter, verdict_on

LONGEST_BYTES = 20_000


def guide(readers: Sequence[FuzzedReader], seconds: int, seed: int) -> int:
    """Give each of `readers` its share of `seconds`, and print its verdicts; the last line is JSON. Returns 1 for a broken rule."""
    try:
        atheris = import_module("atheris")
    except ImportError:
        print("atheris is not installed: `pip install atheris` (Linux, Python 3.11 to 3.13)")
        return 2
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for number, reader in enumerate(readers):
            folder = Path(name) / str(number)
            (folder / "corpus").mkdir(parents=True)
            for i, data in enumerate(reader.seeds):
                (folder / "corpus" / str(i)).write_bytes(data)
            pid = os.fork()
            if pid == 0:
                _follow(atheris, reader, max(1, seconds // len(readers)), seed, folder)
            _, status = os.waitpid(pid, 0)
            lines = [json.loads(line) for line in (folder / "failures").read_text().splitlines()]
            n_inputs = int((folder / "n_inputs").read_text() or 0)
            rows[reader.name] = {"inputs": n_inputs, **Counter(kind for kind, _ in lines)} | (
                {"died": status} if status else {}
            )
            print(f"{reader.name:<24}", rows[reader.name], *lines[:2], flush=True)
    print(json.dumps({"guided_s": seconds, "seed": seed, "readers": rows}))
    return int(any(row.keys() & {"raw", "made up", "message", "hung", "memory", "died"} for row in rows.values()))


def _follow(atheris: Any, reader: FuzzedReader, seconds: int, seed: int, folder: Path) -> None:
    """The child: libFuzzer ends it."""
    os.chdir(folder)
    with open(os.devnull, "w") as nothing:  # noqa: PTH123 - for its descriptor
        os.dup2(nothing.fileno(), 2)
    failures = (folder / "failures").open("w", buffering=1)
    count = (folder / "n_inputs").open("w", buffering=1)
    meter, seen, n_inputs = Meter(), set[str](), 0

    def test_one(data: bytes) -> None:
        nonlocal n_inputs
        n_inputs += 1
        if n_inputs % 100 == 0:
            count.seek(0)
            count.write(f"{n_inputs}\n")
        kind, detail = verdict_on(reader, lambda: reader.read(data), data, meter)
        if kind not in GOOD and detail not in seen and len(seen) < 1000:
            seen.add(detail)
            failures.write(json.dumps([kind, f"{detail} {data[:200]!r}"]) + "\n")

    for function in _functions():
        atheris.instrument_func(function)
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-seed={seed}",
            f"-max_len={LONGEST_BYTES}",
            "-rss_limit_mb=0",
            "corpus",
        ],
        test_one,
    )
    atheris.Fuzz()
    os._exit(0)


def _functions() -> Iterator[Any]:
    """Every function and method of Compass that is imported: to follow all of torch takes minutes."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "compass":
            continue
        for value in list(vars(module).values()):
            members = list(vars(value).values()) if isclass(value) else [value]
            yield from (one for one in members if isfunction(one) and one.__module__ == name)
