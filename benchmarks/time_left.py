"""Does "in all … left" hold? Plans once from an empty cache, and compares what was announced with what it still took.

    python -m benchmarks.time_left [--dataset demo/pdbbind] [--dataset-size 19000] [--memory-limit 4GiB]

Without a dataset, the embedded complex stands in. The first table has the announcement and the truth at a quarter, a half and
three quarters of the true duration (target: within a factor of 1.5); the second, how long each part of the run took, in its
order, to find the part that was misjudged. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compass.cli.progress import Rest
from compass.config_files import SettingChange, load_config
from compass.optimizer import Request, optimize
from compass.records import Progress
from compass.units import parse_bytes

SHARES = (0.25, 0.5, 0.75)
FACTOR = 1.5


@dataclass(frozen=True)
class Told:
    """What was announced at one moment of a run."""

    at_s: float
    part: str
    what: str
    left_s: float | None
    later_s: float = 0.0
    """Of these, what comes after the present step."""


def announced(told: Sequence[Told], at_s: float) -> float | None:
    """Seconds that a reader of the progress line sees at `at_s`: the last announcement, counted down since."""
    seen = [one for one in told if one.at_s <= at_s and one.left_s is not None]
    if not seen:
        return None
    last = seen[-1]
    rest = Rest("", last.at_s + (last.left_s or 0.0), lambda: at_s, in_all=True, later_s=last.later_s)
    return max(0.0, rest.left_s or 0.0)


def misses(told: Sequence[Told], in_all_s: float) -> dict[float, tuple[float | None, float]]:
    """(announced seconds, true seconds) that are left at each share of the true duration."""
    return {share: (announced(told, share * in_all_s), (1 - share) * in_all_s) for share in SHARES}


def parts(told: Sequence[Told], in_all_s: float) -> list[tuple[str, float]]:
    """(part, seconds) in the order of the run; one that is taken up again counts again."""
    found: list[tuple[str, float]] = []
    for one, until_s in zip(told, [*(later.at_s for later in told[1:]), in_all_s], strict=True):
        if found and found[-1][0] == one.part:
            found[-1] = (one.part, found[-1][1] + until_s - one.at_s)
        else:
            found.append((one.part, until_s - one.at_s))
    return found


def plan_once(args: argparse.Namespace, folder: Path) -> tuple[list[Told], float]:
    """What a run from an empty cache announced, and the seconds that it took."""
    changes = [] if args.dataset is None else [SettingChange("--dataset", "dataset.path", args.dataset)]
    request = Request(
        config=load_config(None, changes),
        dataset_size=args.dataset_size,
        memory_limit_bytes=parse_bytes(args.memory_limit, where="--memory-limit"),
        out=folder / "hardware_profile.json",
        cache=folder / "cache",
    )
    told: list[Told] = []
    began_s = time.monotonic()

    def watch(now: Progress) -> None:
        part = f"{now.phase} {now.stage.partition(', ')[2]}".strip()
        told.append(Told(time.monotonic() - began_s, part, now.what, now.in_all_s, now.later_s))

    optimize(request, watch=watch)
    return told, time.monotonic() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", metavar="PATH")
    parser.add_argument("--dataset-size", type=int, metavar="N")
    parser.add_argument("--memory-limit", default="4GiB", metavar="SIZE")
    parser.add_argument("--verbose", action="store_true", help="print every announcement")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told, in_all_s = plan_once(args, Path(folder))
    if args.verbose:
        for one in told:
            left = "" if one.left_s is None else f"{one.left_s:.0f} s left of {in_all_s - one.at_s:.0f}"
            print(f"{one.at_s:7.1f} s  {one.part}: {one.what}  {left}")
    print("| at | announced | true | factor |\n|---|---|---|---|")
    result: dict[str, Any] = {"in_all_s": round(in_all_s, 1)}
    for share, (left_s, true_s) in misses(told, in_all_s).items():
        factor = None if left_s is None else left_s / true_s
        result[f"{share:.0%}"] = None if factor is None else round(factor, 2)
        print(
            f"| {share:.0%} | {'nothing' if left_s is None else f'{left_s:.0f} s'} | {true_s:.0f} s | {factor and f'{factor:.2f}'} |"
        )
    print("\n| part | took |\n|---|---|")
    for part, took_s in parts(told, in_all_s):
        print(f"| {part} | {took_s:.1f} s |")
    result["met"] = all(result[f"{s:.0%}"] is not None and 1 / FACTOR <= result[f"{s:.0%}"] <= FACTOR for s in SHARES)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
