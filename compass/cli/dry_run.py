"""`compass optimize --dry-run`: the work that a request asks for, after a check of everything cheap."""

from __future__ import annotations

import json

from rich.console import Console

from compass.cli.json_text import print_json
from compass.cli.parse import check_output
from compass.cli.progress import live_progress
from compass.cli.say import say
from compass.cli.tables import print_rows
from compass.optimizer import stage_groups
from compass.optimizer_config import SearchRules, StageRules
from compass.planning.precheck import Checked, check_request
from compass.planning.request import Request
from compass.planning.session import wanted_variants
from compass.records.nouns import counted, of_data
from compass.units import format_bytes, format_count, format_duration, format_seconds


def print_dry_run(request: Request, *, as_json: bool) -> None:
    """Check everything that a run would refuse, and describe the planned work; nothing is measured or written.

    Raises:
        InputError: whatever a run would refuse.
        WorkerError: no worker can be started on this machine.
    """
    check_output(request.out)
    with live_progress(Console(stderr=True)) as watch:
        checked = check_request(request, stage_groups(request), watch=watch)
    rows = {**describe(request, checked.description.family.noun), **findings(request, checked)}
    for warning in checked.warnings:
        say(f"warning: {warning}", fg="yellow", err=True)
    if as_json:
        print_json(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    print_rows(rows.items())


def findings(request: Request, checked: Checked) -> dict[str, str]:
    """What the check found, in words, by topic."""
    hardware, samples = checked.description.hardware, checked.description.samples
    family = checked.description.family
    found = {
        "device": f"{hardware.name} ({hardware.device})",
        "memory": f"{format_bytes(hardware.budget_bytes)} may be used, of which an idle worker takes "
        f"{format_bytes(checked.description.baseline_bytes)}",
        "workload": f"{request.workload}: it loads; {samples[0][0]} has {samples[0][1].in_words(family.noun)}"
        if samples
        else request.workload,
    }
    n_own = family.n_samples or len(samples)
    if family.noun and request.dataset_size is None and n_own > 1:
        found["dataset"] = f"the workload's own {counted(n_own, family.noun)}"
    if checked.n_listed:
        n_good = sum(not status.startswith("rejected") for _, status in checked.read)
        bad = [f"{name} {status}" for name, status in checked.read if status.startswith("rejected")]
        of_them = (
            f"{format_count(checked.n_listed)} listed; {n_good} of {len(checked.read)} that were tried can be used"
        )
        found["dataset"] = f"{request.config.dataset.path}, {'; '.join([of_them, *bad[:2]])}"
    before = "" if checked.before_s is None else f"; the last such run took {format_duration(checked.before_s)}"
    scan = ", and the first scan of the dataset" if checked.n_listed else ""
    found["time"] = f"about {format_duration(checked.run_s)} on two cores{scan}{before}"
    return found


def describe(request: Request, noun: str = "") -> dict[str, str]:
    """The parts of `request` in words, by topic; `noun` is the workload's, empty for one on complexes."""
    config, probe = request.config, request.config.probe
    path, size = config.dataset.path, request.dataset_size
    of_path = f"{path}, " if path else ""
    n_samples = (
        "all that a scan finds"
        if path and size is None
        else counted(size or config.dataset.default_size, of_data(noun))
    )
    n_probes = len(probe.micro_loads) * len(probe.micro_architectures) + len(probe.extra_architectures)
    limit = request.memory_limit_bytes
    return {
        **{f"stage {stage}": _budget(config.stages[stage]) for stage in request.stages},
        **(
            {}
            if path or noun
            else {"test bench": f"{config.test_bench.name} ({config.test_bench.protein or 'embedded'})"}
        ),
        "workload": request.workload,
        "device": request.device or "an accelerator if there is one, else the CPU",
        **({} if request.n_devices == 1 else {"devices": _ranks(request)}),
        "memory": f"at most {format_bytes(limit)}"
        if limit
        else f"the free memory of the device, less {config.memory.reserve_share:.0%}",
        "dataset": f"{of_path}{n_samples}",
        "calibration": f"{n_probes} probes for each of {len(wanted_variants(config))} variants",
        "search": _search(config.search),
        "profile": str(request.out),
    }


def _ranks(request: Request) -> str:
    """The ranks that are asked for."""
    on_machines = (
        "" if request.n_nodes == 1 else f" on each of {request.n_nodes} machines, of which this one is measured"
    )
    return f"{request.n_devices} ranks{on_machines}; certificates run with all of them"


def _search(rules: SearchRules) -> str:
    if rules.sampler == "structured":
        return f"at most {rules.probes_per_stage} timing probes per stage"
    return f"{rules.sampler_trials} trials per stage by Optuna's {rules.sampler} sampler"


def _budget(rules: StageRules) -> str:
    if rules.target_s is None:
        return "no time limit"
    most_s = rules.target_s + rules.window_s
    return f"target {format_seconds(rules.target_s)}; up to {format_seconds(most_s)} at a declining score"
