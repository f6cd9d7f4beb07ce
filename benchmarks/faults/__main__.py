"""Faults at random moments of real runs: `python -m benchmarks.faults [--tries N] [--seed S] [--kinds WORD …] [--quick]`.

Commands that plan, train and scan are interrupted, starved of disk, started twice, or find their files damaged; then they go on
to their end. After each fault and at the end, what is there is judged by the rules of `benchmarks.faults.rules`. The table shows
the tries and the losses of each kind, and the last line is JSON. It needs Linux; a full disk and a read-only folder need root.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.faults.kinds import Kind, kinds, may_mount
from benchmarks.faults.rules import Finding
from benchmarks.faults.schedule import MOUNTED, planned
from benchmarks.faults.targets import ENVIRONMENT, Target
from benchmarks.faults.tries import Try, measure_undisturbed

SEED, TRIES, QUICK_TRIES = 25, 515, 24
WARM = (
    "compass.cli.app", "compass.cli.optimize", "compass.cli.scan", "compass.cli.train", "compass.optimizer", "compass.config_files",
    "compass.probe.simulation", "compass.training.begin", "compass.training.run", "compass.data.scan.scan", "compass.data.scan.replay",
    "compass.data.graphs.graph_packing", "compass.workloads.visnet", "pytorch_lightning.loggers",
    "torch.distributed.launcher.api", "scipy.optimize", "optuna", "rich.console", "compass.cli.progress",
    "compass.data.structures.reading", "compass.training.last_evaluation", "compass.reporting.results",
)  # fmt: skip
"""What the harness imports, so that its forks need not."""


def run(given: argparse.Namespace, home: Path) -> dict[str, object]:
    """Make the tries; returns what the last line says."""
    draw, began_s = random.Random(given.seed), time.monotonic()
    found: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    n_tries: Counter[tuple[str, str]] = Counter()
    n_visnet = 0
    chosen = [kind for kind in kinds() if not given.kinds or any(word in kind.name for word in given.kinds)]
    if not may_mount():
        print(f"no right to mount disks: {', '.join(MOUNTED)} are left out")
        chosen = [kind for kind in chosen if kind.name not in MOUNTED]
    for target_class, wanted in planned(given.tries, chosen, only=given.targets, quick=given.quick):
        target = target_class(home / "shared")
        found[target.name, "none"] = list(measure_undisturbed(target, home / "undisturbed"))
        n_tries[target.name, "none"] = 0
        report("undisturbed", target, found[target.name, "none"])
        print(f"{target.name}: {target.undisturbed_s:.1f} s undisturbed, {sum(wanted.values())} faults", flush=True)
        for kind, n_faults in wanted.items():
            place = target.name, kind.name
            for one in made(target, kind, n_faults, home, draw):
                n_tries[place] += one.n_faults
                n_visnet += one.n_faults * target.visnet
                found[place] += one.findings
                report(f"{kind.name} ({one.folder.name})", target, one.findings)
            print(f"    {kind.name}: {n_tries[place]} faults, {(time.monotonic() - began_s) / 60:.1f} min", flush=True)
    print_table(n_tries, found)
    return {
        "faults": sum(n_tries.values()), "visnet": n_visnet, "losses": sum(map(len, found.values())), "seed": given.seed,
        "minutes": round((time.monotonic() - began_s) / 60, 1),
        "kinds": {f"{target}: {kind}": [n, len(found[target, kind])] for (target, kind), n in n_tries.items()},
    }  # fmt: skip


def made(target: Target, kind: Kind, n_faults: int, home: Path, draw: random.Random) -> Iterator[Try]:
    """Tries until `n_faults` faults have happened, or one that could not happen."""
    n_done = 0
    while n_done < n_faults:
        # A short name: processes of data loaders meet at sockets among the temporary files, and their paths have a limit.
        one = Try(target, kind, home / str(len(list(home.iterdir()))), draw)
        one.run()
        yield one
        if not one.n_faults:
            print(f"    {target.name}, {kind.name}: could not happen", flush=True)
            return
        n_done += one.n_faults


def report(what: str, target: Target, findings: Sequence[Finding]) -> None:
    """Print what was found at once."""
    for rule, text in findings:
        print(f"    {target.name}, {what}: {rule}: {text}", flush=True)


def print_table(n_tries: Counter[tuple[str, str]], found: dict[tuple[str, str], list[Finding]]) -> None:
    """A row for each command and kind: faults, losses, and the rules that were broken."""
    print(f"\n| {'command':<22} | {'fault':<16} | {'tries':>5} | {'losses':>6} | rules |")
    print("|---|---|---|---|---|")
    for (target, kind), n in n_tries.items():
        broken = Counter(rule for rule, _ in found[target, kind])
        words = ", ".join(f"{rule} {count}" for rule, count in broken.items())
        print(f"| {target:<22} | {kind:<16} | {n:>5} | {sum(broken.values()):>6} | {words} |")


def main() -> None:
    """Make the tries, print the table and the JSON object; the exit code says whether anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tries", type=int, help=f"faults in all; {TRIES} unless --quick, {QUICK_TRIES} with it")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--kinds", nargs="*", default=[], metavar="WORD", help="only kinds whose name has such a word")
    parser.add_argument(
        "--targets", nargs="*", default=[], metavar="WORD", help="only commands whose name has such a word"
    )
    parser.add_argument("--quick", action="store_true", help="some faults of the quick commands, in less than 90 s")
    parser.add_argument("--keep", action="store_true", help="keep the files of tries in which something was lost")
    given = parser.parse_args()
    given.tries = given.tries or (QUICK_TRIES if given.quick else TRIES)
    for name in WARM:
        importlib.import_module(name)
    home = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        result = run(given, home)
    finally:
        if given.keep:
            print(f"kept {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(result))
    sys.exit(int(bool(result["losses"])))


if __name__ == "__main__":
    import os

    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):  # libraries read them when they load
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ENVIRONMENT})  # noqa: S606
    main()
