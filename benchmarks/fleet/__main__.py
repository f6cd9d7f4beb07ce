"""Faults in a fleet, and a fleet of a thousand: `python -m benchmarks.fleet`.

A Ray cluster of ten simulated kinds on this computer is planned while agents, nodes and answers are lost and requests come twice.
Prints a table and, as its last line, one JSON object of figures; writes nothing else. `--quick` needs no Ray and under a minute.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import sys
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.fleet.faults import (
    absent_kinds,
    all_machines,
    as_json,
    in_process,
    judged_run,
    on_ray,
    restarted_heads,
    slow_nodes,
)
from benchmarks.fleet.scale import measure_scale

SEED = 20_261
N_KINDS, N_KINDS_QUICK = 10, 2
FAULTS = {"agent lost": 60, "node killed": 20, "answer lost": 30, "duplicate": 40}
FAULTS_QUICK = {"agent lost": 6, "answer lost": 6, "duplicate": 8}
N_SLOW, N_ABSENT, N_RESTARTS = 20, 20, 10
RUNNERS, RUNNERS_QUICK = (10, 100, 1000), (10, 100)


def run(folder: Path, *, quick: bool, ray: bool) -> dict[str, Any]:
    machines = all_machines(N_KINDS_QUICK if quick else N_KINDS)
    faults = [name for name, n in (FAULTS_QUICK if quick else FAULTS).items() for _ in range(n)]
    with (on_ray if ray else in_process)(machines) as ground:
        judged = judged_run(ground, faults, machines, folder, SEED)
    divisor = 5 if quick else 1
    n_slow, n_absent, n_restarts = (n // divisor for n in (N_SLOW, N_ABSENT, N_RESTARTS))
    lost, doubled = restarted_heads(machines[0], n_restarts, folder, SEED)
    found = {
        "engine": "ray" if ray else "in process",
        "kinds": len(machines),
        "faults": judged.injected.total() + n_slow + n_absent + n_restarts,
        **as_json(judged),
        "n_slow_unnamed": slow_nodes(machines, n_slow, SEED),
        "n_absent_unnamed": absent_kinds(machines, n_absent, folder),
        "n_lost_by_restarts": lost,
        "n_doubled_by_restarts": doubled,
    }
    scales = [measure_scale(n, folder) for n in (RUNNERS_QUICK if quick else RUNNERS)]
    return {**found, "scale": [asdict(one) for one in scales]}


def is_good(found: dict[str, Any]) -> bool:
    """Nothing lost, doubled, different or unnamed."""
    wrong = [value for name, value in found.items() if name.startswith("n_") and name != "n_probes"]
    return not any(wrong) and not any(one["n_doubled"] for one in found["scale"])


def show(found: dict[str, Any]) -> None:
    for name, value in found.items():
        if name != "scale":
            print(f"{name:<24} {value}")
    for one in found["scale"]:
        print("  ".join(f"{name} {value:,.5g}" for name, value in one.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two kinds and twenty faults in this process")
    quick = parser.parse_args().quick
    ray = not quick and importlib.util.find_spec("ray") is not None
    if not quick and not ray:
        print("the extra `fleet` is not installed: faults are injected in this process", file=sys.stderr)
    warnings.simplefilter("ignore")
    logging.getLogger("compass").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), quick=quick, ray=ray)
    show(found)
    print(json.dumps({"benchmark": "fleet", "ok": is_good(found), **found}))
    sys.exit(0 if is_good(found) else 1)


if __name__ == "__main__":
    main()
