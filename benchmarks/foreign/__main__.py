"""Distance from the optimum under foreign physics: `python -m benchmarks.foreign [--scenarios 200] [--kinds …] [--quick]`.

Compass plans for machines whose physics share nothing with its cost models. An oracle that tries everything on the truth judges
the plans. Shares are in per cent. Prints a table of kinds, what went wrong where (with `--notes`), the targets, which the fair
kinds must reach, and as its last line one JSON object of totals; writes nothing else.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Sequence

from benchmarks.foreign.figures import summarise, table, targets
from benchmarks.foreign.judge import JudgedScenario, judge
from benchmarks.foreign.kinds import FAIR, KINDS
from benchmarks.foreign.scenarios import make_scenario

N_SCENARIOS, N_QUICK = 200, 8
QUICK_KINDS = (
    "linear",
    "mig_slice",
    "fixed_segments",
    "invalid_shape",
    "numa",
    "single_crash",
    "spill",
    "convex_features",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and return 0, or 1 if a target is missed (never with `--quick` or some kinds only, which do not judge)."""
    options = parse(arguments)
    logging.getLogger("compass").setLevel(logging.CRITICAL)  # what happened is in the figures
    warnings.filterwarnings("ignore")
    judged = run(options.kinds, options.numbers or range(options.scenarios), options.seed, notes=options.notes)
    print(table(judged))
    fair = [one for one in judged if KINDS[one.kind].fair]
    totals = {"fair": summarise(fair), "hard": summarise([one for one in judged if one not in fair])}
    reached = targets(totals["fair"])
    for name, passed in reached.items():
        print(f"{'-' if passed is None else 'pass' if passed else 'FAIL':<4}  {name}")
    print(json.dumps({"benchmark": "foreign", "seed": options.seed, "kinds": options.kinds, "quick": options.quick,
                      "totals": totals, "targets": reached}))  # fmt: skip
    is_whole = not options.quick and options.kinds == list(KINDS) and not options.numbers
    return 1 if is_whole and False in reached.values() else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line, with `kinds` as a list and `scenarios` filled in."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.foreign", description=__doc__)
    parser.add_argument(
        "--scenarios", type=int, help=f"how many (default {N_SCENARIOS}, quick {N_QUICK}); kinds take turns"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed is another set of machines (default 0)")
    parser.add_argument("--kinds", help="kinds, separated by commas, or fair; default all: " + ", ".join(KINDS))
    parser.add_argument("--only", help="numbers of scenarios to run, separated by commas")
    parser.add_argument(
        "--notes", action="store_true", help="print each scenario whose plan is worse than it should be"
    )
    parser.add_argument("--quick", action="store_true", help="under a minute, prints without judging")
    options = parser.parse_args(arguments)
    options.kinds = named_kinds(options.kinds, quick=options.quick)
    unknown = [name for name in options.kinds if name not in KINDS]
    if unknown:
        parser.error(f"--kinds: got {', '.join(unknown)}, expected names out of {', '.join(KINDS)}")
    options.scenarios = options.scenarios or (N_QUICK if options.quick else N_SCENARIOS)
    options.numbers = [int(number) for number in options.only.split(",")] if options.only else []
    return options


def named_kinds(text: str | None, *, quick: bool) -> list[str]:
    """The kinds that the command line asks for."""
    if text is None:
        return list(QUICK_KINDS if quick else KINDS)
    return list(FAIR) if text == "fair" else text.split(",")


def run(kinds: Sequence[str], numbers: Sequence[int], seed: int, *, notes: bool = False) -> list[JudgedScenario]:
    """The scenarios of these numbers, judged; the kinds take turns."""
    judged = []
    for number in numbers:
        one = judge(make_scenario(kinds[number % len(kinds)], number, seed))
        judged.append(one)
        if notes and (one.notes or one.over_budget or one.beyond_law):
            print(f"{one.number} {one.kind}: over {one.over_budget}, beyond law {one.beyond_law}")
            print("".join(f"    {line}\n" for line in one.notes), end="", flush=True)
        if sys.stderr.isatty():
            print(f"\r{one.number} {one.kind:<40}", end="", file=sys.stderr)
    return judged


if __name__ == "__main__":
    raise SystemExit(main())
