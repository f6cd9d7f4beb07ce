"""Do the tests notice a wrong program? `python -m benchmarks.mutation [--package …] [--mutants N] [--seed S] [--only NUMBER …]`.

A mutant is a module with one small mistake (`changes.py`). It is killed if a unit test of its package fails, or takes too long.
The mutants are a sample that depends on the seed and the sources alone; they are tried in a copy of the working tree, so that
processes that tests start see them too. Each runs in a fork of a process that has imported the libraries already.
Not all survivors are gaps: some are equivalent to the right program. The last line is JSON.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.mutation.changes import Mutant, mutants

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0
"""For the tests of one mutant, which take up to fifteen seconds."""
_TRAINING = "tests/unit/training/test_"
PACKAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cost": (("compass/cost/*.py",), ("tests/unit/cost",)),
    "search": (("compass/search/*.py",), ("tests/unit/search",)),
    "stages": (("compass/stages/*.py",), ("tests/unit/stages",)),
    "planning": (("compass/planning/*.py",), ("tests/unit/planning",)),
    "batching": (("compass/batching/*.py",), ("tests/unit/batching",)),
    "updates": (
        ("compass/training/updates.py", "compass/training/guard.py"),
        (f"{_TRAINING}updates.py", f"{_TRAINING}around_steps.py"),
    ),
    "checkpoints": (
        ("compass/training/checkpoints.py", "compass/training/seal.py"),
        (f"{_TRAINING}checkpoints.py", f"{_TRAINING}seal.py", f"{_TRAINING}going_on.py"),
    ),
}
"""Modules, and the tests that must notice."""
_LIBRARIES = (
    "torch_geometric.nn",
    "pytorch_lightning",
    "hypothesis.strategies",
    "scipy.optimize",
    "pydantic",
    "pytest",
)


def sampled(package: str, n_mutants: int, seed: int) -> list[tuple[Path, ast.Module, Mutant]]:
    """(module, its tree, mutant) of a sample."""
    paths = sorted(path for pattern in PACKAGES[package][0] for path in ROOT.glob(pattern))
    trees = [(path.relative_to(ROOT), ast.parse(path.read_text("utf-8"))) for path in paths]
    every = [(path, tree, one) for path, tree in trees for one in mutants(tree)]
    return random.Random(f"{seed} {package}").sample(every, min(n_mutants, len(every)))


def tested(copy: Path, tests: Sequence[str]) -> str:
    """`survived` if the tests pass in `copy`, `failed` or `slow` if not; each in a process group of its own."""
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        _run_tests(copy, tests)
    ends_s = time.monotonic() + LIMIT_S
    found, status = 0, 0
    while not found and time.monotonic() < ends_s:
        time.sleep(0.05)
        found, status = os.waitpid(pid, os.WNOHANG)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    if not found:
        os.waitpid(pid, 0)
        return "slow"
    return "failed" if status else "survived"


def _run_tests(copy: Path, tests: Sequence[str]) -> None:
    """In a forked process, which this ends: with status 0 if all tests passed."""
    import pytest

    os.setsid()
    os.chdir(copy)
    os.environ["PYTHONPATH"] = sys.path[0] = str(copy)
    with Path(os.devnull).open("r+b") as nothing:
        for number in (0, 1, 2):
            os.dup2(nothing.fileno(), number)
    status = 1
    try:
        status = int(
            pytest.main(
                [
                    "-x",
                    "-p",
                    "no:cacheprovider",
                    "-p",
                    "no:xdist",
                    "--hypothesis-profile=quick",
                    "--hypothesis-seed=0",
                    *tests,
                ]
            )
        )
    finally:
        os._exit(status)


def tried(package: str, n_mutants: int, seed: int, only: Sequence[int]) -> dict[str, int]:
    """The mutants of a package by what became of them; survivors are printed."""
    counts = {"failed": 0, "slow": 0, "survived": 0}
    tests = PACKAGES[package][1]
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "dist"), symlinks=True)
        if (verdict := tested(copy, tests)) != "survived":
            raise SystemExit(f"{package}: the tests of the right program are {verdict}")
        for number, (path, tree, mutant) in enumerate(sampled(package, n_mutants, seed)):
            if only and number not in only:
                continue
            right = (copy / path).read_text("utf-8")
            (copy / path).write_text(mutant.source(tree), "utf-8")
            verdict = tested(copy, _nearest_first(path, tests))
            (copy / path).write_text(right, "utf-8")
            counts[verdict] += 1
            print(f"{package} {number} {verdict}: {path}:{mutant.line} {mutant.what}", flush=True)
    return counts


def _nearest_first(path: Path, tests: Sequence[str]) -> list[str]:
    """The tests with those named as the module in front: most mutants fail there."""
    own = [folder for folder in tests if (ROOT / folder / f"test_{path.stem}.py").exists()]
    return [*(f"{folder}/test_{path.stem}.py" for folder in own), *tests]


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the mutants, and print each of them and one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--package", nargs="*", choices=list(PACKAGES), default=list(PACKAGES))
    parser.add_argument("--mutants", type=int, default=60, help="of each package")
    parser.add_argument("--seed", type=int, default=25)
    parser.add_argument("--only", type=int, nargs="*", default=[], metavar="NUMBER", help="these of the sample")
    given = parser.parse_args(arguments)
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    for name in _LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # or every collection in a fork would look through the libraries
    counts = {name: tried(name, given.mutants, given.seed, given.only) for name in given.package}
    scores = {name: round(1 - one["survived"] / max(1, sum(one.values())), 3) for name, one in counts.items()}
    print(json.dumps({"seed": given.seed, "scores": scores, "mutants": counts}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
