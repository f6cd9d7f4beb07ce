"""`compass optimize --dry-run`: the work that a request asks for."""

from __future__ import annotations

import json

import typer

from compass.cli.tables import print_rows
from compass.optimizer_config import SearchRules, StageRules
from compass.planning.request import Request
from compass.planning.session import wanted_variants
from compass.units import format_bytes, format_count, format_seconds


def print_dry_run(request: Request, *, as_json: bool) -> None:
    """Describe the planned work. Nothing is started, so the effects of the device stay open."""
    rows = describe(request)
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    print_rows(rows.items())


def describe(request: Request) -> dict[str, str]:
    """The parts of `request` in words, by topic."""
    config, probe = request.config, request.config.probe
    path, size = config.dataset.path, request.dataset_size
    of_path = f"{path}, " if path else ""
    n_complexes = (
        "all that a scan finds"
        if path and size is None
        else (f"{format_count(size or config.dataset.default_size)} complexes")
    )
    n_probes = len(probe.micro_loads) * len(probe.micro_architectures) + len(probe.extra_architectures)
    limit = request.memory_limit_bytes
    return {
        **{f"stage {stage}": _budget(config.stages[stage]) for stage in request.stages},
        **({} if path else {"test bench": f"{config.test_bench.name} ({config.test_bench.protein or 'embedded'})"}),
        "workload": request.workload,
        "device": request.device or "an accelerator if there is one, else the CPU",
        "memory": f"at most {format_bytes(limit)}"
        if limit
        else f"the free memory of the device, less {config.memory.reserve_share:.0%}",
        "dataset": f"{of_path}{n_complexes}",
        "calibration": f"{n_probes} probes for each of {len(wanted_variants(config))} variants",
        "search": _search(config.search),
        "profile": str(request.out),
    }


def _search(rules: SearchRules) -> str:
    if rules.sampler == "structured":
        return f"at most {rules.probes_per_stage} timing probes per stage"
    return f"{rules.sampler_trials} trials per stage by Optuna's {rules.sampler} sampler"


def _budget(rules: StageRules) -> str:
    if rules.target_s is None:
        return "no time limit"
    most_s = rules.target_s + rules.window_s
    return f"target {format_seconds(rules.target_s)}; up to {format_seconds(most_s)} at a declining score"
