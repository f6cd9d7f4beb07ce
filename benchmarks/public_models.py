"""Models of other people, from their packages: `python -m benchmarks.public_models [NAME …] [--quick]`.

Each is checked as by `compass workload check`, then planned for production as by `compass optimize` under a limit, and the plan is proven
once more by a fresh process, as by `compass verify`. Live bytes and step are those that were predicted before the certificate ran.
`--quick` only checks those that need no further package; `--limit` is that of the plans. A model whose package is not installed is named and left out.

The last line is JSON: for each model its package, added lines, verdict, plan, errors, and the steps that both runs survived.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import compass
from compass.config_files import load_config
from compass.workload_check.checkup import check_workload

EXAMPLES = Path(__file__).parents[1] / "examples"
BUILT_IN = {
    "visnet": "torch_geometric",
    "schnet": "torch_geometric",
    "dimenet++": "torch_geometric",
    "gps": "torch_geometric",
}
OWN = {
    "GIN": "torch_geometric",
    "GATv2": "torch_geometric",
    "PNA": "torch_geometric",
    "AttentiveFP": "torch_geometric",
    "EGNN": "egnn_pytorch",
    "BERT": "transformers",
    "ESM": "transformers",
    "Encoder": "x_transformers",
}
"""Classes of examples/public_models.py, each with the package that has the model."""
ELSEWHERE = {
    "Chemprop": ("chemprop_smiles.py", "chemprop"),
    "Mace": ("mace_molecules.py", "mace"),
}
DATASET_SIZE = 20_000
LIMIT = "3GiB"
"""Of plans, unless another one is asked for."""
SETTINGS = {"runtime.waiting": "sleep", "stages.production.checkpointing": (False,)}


def sources() -> Iterator[tuple[str, str, str]]:
    """(name, workload, package) of every model."""
    yield from ((name, name, package) for name, package in BUILT_IN.items())
    yield from ((name, f"{EXAMPLES}/{file}:{name}", package) for name, (file, package) in ELSEWHERE.items())
    yield from ((name, f"{EXAMPLES}/public_models.py:{name}", package) for name, package in OWN.items())


def added_lines(workload: str) -> int:
    """Lines of the class that makes a workload of the model, and of those it inherits from; 0 for Compass's own families."""
    file, _, name = workload.rpartition(":")
    if not file:
        return 0
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    n_lines, waiting = 0, [name]
    while waiting:
        node = classes[waiting.pop()]
        n_lines += (node.end_lineno or node.lineno) - node.lineno + 1
        waiting += [base.id for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
    return n_lines


def checked(workload: str) -> dict[str, Any]:
    """The verdict of `compass workload check`."""
    report = check_workload(workload, load_config(None, ["runtime.waiting=sleep"]))
    worst = None if report.loads is None else report.loads.worst
    return {"ok": report.ok, "verdict": report.verdict, "worst_load_error": worst, "check_s": round(report.seconds)}


def planned(workload: str, folder: str, limit: str) -> dict[str, Any]:
    """The production plan, its errors, and its second proof."""
    out = f"{folder}/profile.json"
    profile = compass.optimize(
        workload,
        stages="production",
        dataset_size=DATASET_SIZE,
        memory_limit=limit,
        settings=SETTINGS,
        out=out,
        cache=folder,
    )
    if (failure := profile.failures.get("production")) is not None:
        return {"plan": None, "reason": failure.reason}
    plan = profile.plans["production"]
    again = compass.verify(out, cache=folder)
    return {
        "plan": f"{plan.choice.knobs.shape} {plan.choice.knobs.variant}, batch {plan.choice.batch_size}",
        "live_error": plan.predicted.live_bytes / plan.measured.live_bytes - 1,
        "step_error": plan.predicted.step_s / plan.measured.step.median_s - 1,
        "peak_share": plan.measured.footprint_bytes / plan.certificate.ceiling_bytes,
        "steps": plan.certificate.n_steps,
        "ran_again": all(one.outcome is not None and one.outcome.ok for one in again.checks),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--limit", default=LIMIT)
    asked = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    for name, workload, package in sources():
        if (asked.names and name not in asked.names) or (asked.quick and name not in OWN):
            continue
        if find_spec(package) is None:
            print(f"{name}: {package} is not installed", flush=True)
            continue
        rows[name] = {"package": package, "lines": added_lines(workload), **checked(workload)}
        if not asked.quick:
            with TemporaryDirectory() as folder:
                rows[name] |= planned(workload, folder, asked.limit)
        print(name, json.dumps(rows[name]), flush=True)
    errors = [abs(row["live_error"]) for row in rows.values() if row.get("plan")]
    summary = {"n": len(rows), "ok": sum(row["ok"] for row in rows.values())}
    if errors:
        summary |= {"planned": len(errors), "live_error_median": median(errors), "live_error_worst": max(errors)}
    print(json.dumps({**summary, "models": rows}))


if __name__ == "__main__":
    main()
