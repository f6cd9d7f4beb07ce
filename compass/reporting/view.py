"""The content of a report, without its form: HTML and Markdown are made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compass.profile import PROFILE_NAME
from compass.records import STAGE_QUESTIONS, STAGES, Choice, RuntimeChoice, Stage, StagePlan
from compass.records.nouns import counted, of_batch, of_data
from compass.reporting.answers import headline, next_commands
from compass.reporting.candidates import candidate_table, stage_figures
from compass.reporting.devices import devices_table, devices_words
from compass.reporting.evidence import Evidence
from compass.reporting.explain import Explanation, explain_plan
from compass.reporting.figure import Figure, Table
from compass.reporting.memory_parts import MemoryPart, memory_parts
from compass.reporting.predictions import prediction_figures, prediction_table
from compass.reporting.search import search_figure, search_table
from compass.reporting.sizes import size_figures, size_table
from compass.reporting.words import (
    STAGE_NAMES,
    allowed_s,
    batch_words,
    choice_words,
    model_name,
    of_bytes,
    rate,
    rate_unit,
    share,
)
from compass.units import format_bytes, format_count, format_duration, format_seconds

Facts = tuple[tuple[str, str], ...]
"""(label, text)."""


@dataclass(frozen=True)
class Gauge:
    """A value, and its share of the limit."""

    label: str
    says: str
    share: float | None = None

    @property
    def percent(self) -> float:
        """For the length of a bar."""
        return 0.0 if self.share is None else min(100.0, max(0.0, 100 * self.share))


@dataclass(frozen=True)
class StageView:
    """The part of the report on one stage."""

    stage: Stage
    name: str
    question: str
    found: bool
    headline: str
    gauges: tuple[Gauge, ...]
    explanation: Explanation
    limited_by: str
    figures: tuple[Figure, ...]
    alternatives: Table
    certificate: Facts
    memory: tuple[MemoryPart, ...] = ()
    devices: Table | None = None
    """What other numbers of devices would buy; None: it was planned for one."""
    devices_says: str = ""
    ceiling: str = ""
    """The memory that the parts fill."""


@dataclass(frozen=True)
class View:
    """The content of the whole report."""

    title: str
    headline: str
    """The most developed plan in a sentence; empty without one."""
    machine: str
    question: str
    """Workload and data."""
    created: str
    missing: tuple[str, ...]
    next: Facts
    """Commands that a reader may type next, with what each is for."""
    stages: tuple[StageView, ...]
    predictions: tuple[Figure, ...]
    search: Figure | None
    cost: Facts
    sizes: tuple[Figure, ...]
    data: Facts
    hardware: Facts
    rate_unit: str
    """Of throughput, e.g. `graphs/s`."""
    tables: dict[str, Table]

    @property
    def figures(self) -> list[Figure]:
        """Every plot, in the order of the page."""
        of_stages = [figure for stage in self.stages for figure in stage.figures]
        return [*of_stages, *self.predictions, *([self.search] if self.search else []), *self.sizes]


def view_of(evidence: Evidence) -> View:
    """The report on `evidence`."""
    hardware = evidence.hardware
    stages = tuple(_stage(evidence, stage) for stage in evidence.stages)
    search, sizes = search_figure(evidence), tuple(size_figures(evidence))
    predictions = tuple(prediction_figures(evidence))
    tables: dict[str, Table] = {
        stage.stage: candidate_table(evidence, stage.stage) for stage in stages if stage.figures
    }
    tables |= {"predictions": prediction_table(evidence)} if predictions else {}
    tables |= {"search": search_table(evidence)} if search else {}
    if evidence.dataset:
        tables |= {f"sizes-{one.feature}": size_table(one, evidence.noun) for one in evidence.dataset.sizes}
    name = hardware.name if hardware else "an unknown machine"
    return View(
        title=f"Compass on {name}",
        headline=_headline(evidence),
        machine=name if hardware is None else f"{name}, budget {format_bytes(hardware.budget_bytes)}",
        question=_question(evidence),
        created=" · ".join(
            text
            for text in (evidence.created, evidence.compass_version and f"Compass {evidence.compass_version}")
            if text
        ),
        missing=evidence.missing,
        next=_next(evidence),
        stages=stages,
        predictions=predictions,
        search=search,
        cost=_cost(evidence),
        sizes=sizes,
        data=_data(evidence),
        hardware=_hardware(evidence),
        rate_unit=rate_unit(evidence.noun),
        tables=tables,
    )


def _headline(evidence: Evidence) -> str:
    plans = evidence.plans or {}
    stage = next((one for one in reversed(STAGES) if one in plans), None)
    if stage is None or not evidence.dataset_size:
        return ""
    return headline(plans[stage], evidence.dataset_size, evidence.noun)


def _next(evidence: Evidence) -> Facts:
    path = evidence.path or Path(PROFILE_NAME)
    commands = next_commands(evidence, path)
    return tuple(one for one in commands if not one[0].startswith("compass report"))  # which is being read


def _question(evidence: Evidence) -> str:
    parts = [evidence.workload or "an unknown workload"]
    if evidence.dataset_size:
        parts.append(counted(evidence.dataset_size, of_data(evidence.noun)))
    if evidence.data_cap:
        parts.append(f"at most {format_count(evidence.data_cap)} parameters")
    return ", ".join(parts)


# ------------------------------------------------------------------------------------------------------------ stages


def _stage(evidence: Evidence, stage: Stage) -> StageView:
    entry = evidence.found[stage]
    explanation = explain_plan(evidence, stage)
    plan = entry if isinstance(entry, StagePlan) else None
    return StageView(
        stage=stage,
        name=STAGE_NAMES[stage],
        question=STAGE_QUESTIONS[stage],
        found=plan is not None,
        headline=choice_words(plan.choice) if plan else "nothing found",
        gauges=_gauges(evidence, plan) if plan else (),
        explanation=explanation,
        limited_by=entry.limited_by,
        figures=tuple(stage_figures(evidence, stage)),
        alternatives=_alternatives(plan.runners_up if plan else (), evidence.noun),
        certificate=_certificate_facts(plan, evidence.noun) if plan else (),
        memory=memory_parts(plan) if plan else (),
        devices=devices_table(plan, evidence.noun) if plan and plan.ranks else None,
        devices_says=devices_words(plan, evidence.noun) if plan else "",
        ceiling=format_bytes(plan.certificate.ceiling_bytes) if plan else "",
    )


def _interval(plan: StagePlan) -> str:
    """The interval of a cycle whose step time did not settle."""
    if not plan.unsettled:
        return ""
    step, n_steps = plan.measured.step, plan.measured.cycle_s / plan.measured.step.median_s
    return f" ({format_seconds(step.low_s * n_steps)} to {format_seconds(step.high_s * n_steps)})"


def _gauges(evidence: Evidence, plan: StagePlan) -> tuple[Gauge, ...]:
    measured, certificate, most_s = plan.measured, plan.certificate, allowed_s(plan.stage, evidence.config)
    rules = evidence.config.stages[plan.stage] if evidence.config else None
    target = f" of {format_seconds(rules.target_s)}" if rules and rules.target_s else ""
    return (
        Gauge("parameters", format_count(plan.choice.capacity)),
        Gauge("throughput", f"{rate(plan.together_throughput)} {rate_unit(evidence.noun)}"),
        Gauge(
            "cycle",
            f"{'about ' if plan.indicative else ''}{format_seconds(measured.cycle_s)}{_interval(plan)}{target}",
            measured.cycle_s / most_s if most_s else None,
        ),
        *_epoch_gauges(evidence, plan),
        Gauge(
            "memory",
            of_bytes(measured.footprint_bytes, certificate.ceiling_bytes),
            measured.footprint_bytes / certificate.ceiling_bytes,
        ),
        Gauge("proven", f"{certificate.n_steps} steps{_allocator(evidence, plan)}"),
    )


def _epoch_gauges(evidence: Evidence, plan: StagePlan) -> tuple[Gauge, ...]:
    if plan.epoch_s is None or plan.training_s is None or evidence.config is None:
        return ()
    epochs = format_count(evidence.config.training.epochs)
    about = "about " if plan.indicative else ""
    return (Gauge("epoch", f"{about}{format_duration(plan.epoch_s)}; {epochs} in {format_duration(plan.training_s)}"),)


def _allocator(evidence: Evidence, plan: StagePlan) -> str:
    """The allocator that the plan ran under; an accelerator has its own."""
    on_host = evidence.hardware is not None and evidence.hardware.on_host
    return f" under {plan.choice.allocator}" if on_host else ""


def _certificate_facts(plan: StagePlan, noun: str) -> Facts:
    predicted, measured, certificate = plan.predicted, plan.measured, plan.certificate
    step = measured.step
    rows = [
        ("batch", batch_words(plan, noun)),
        ("step", f"{step.median_s:.3g} s, {step.low_s:.3g} to {step.high_s:.3g} s in {step.n_steps} steps"),
        (
            "certificate",
            (
                f"{certificate.n_steps} steps under {format_bytes(certificate.ceiling_bytes)}, "
                f"{'enforced' if certificate.enforced else 'not enforced'}"
            ),
        ),
        ("worst batch", certificate.worst.in_words(noun)),
        (
            "live memory",
            f"{format_bytes(predicted.live_bytes)} predicted, {format_bytes(measured.live_bytes)} measured",
        ),
        (
            "footprint",
            (
                f"{format_bytes(predicted.footprint_bound_bytes)} predicted at most, "
                f"{format_bytes(measured.footprint_bytes)} measured"
            ),
        ),
        ("runtime", f"{plan.runtime.threads} threads, {plan.runtime.allocator} allocator"),
    ]
    rows += [(name, str(value)) for name, value in plan.choice.knobs.variant.options]
    budget = plan.batch_budget
    if budget is not None:
        advice = "recommended" if plan.recommended == "batch_budget" else "the fixed batch is recommended"
        faster = "faster" if budget.gain > 0 else "slower"
        text = f"{budget.mean_graphs:.1f} {of_batch(noun)} on average, {share(abs(budget.gain))} {faster}; {advice}"
        rows.append(("batches by memory", text))
    if certificate.left_out:
        rows.append(("not trained on", f"{', '.join(certificate.left_out)}: too large even alone"))
    return tuple(rows)


def _alternatives(choices: Sequence[Choice], noun: str) -> Table:
    columns = ("model", "parameters", "batch", rate_unit(noun), "cycle", "memory, at most", "score")
    return Table(columns, tuple(_alternative(choice) for choice in choices))


def _alternative(choice: Choice) -> tuple[str, ...]:
    return (
        model_name(choice.knobs),
        format_count(choice.capacity),
        format_count(choice.batch_size),
        rate(choice.throughput),
        format_seconds(choice.cycle_s),
        format_bytes(choice.footprint_bound_bytes),
        "" if choice.score is None else f"{choice.score:.4f}",
    )


# ------------------------------------------------------------------------------------- the machine, the data, the cost


def _hardware(evidence: Evidence) -> Facts:
    hardware, prints = evidence.hardware, evidence.fingerprint
    rows: list[tuple[str, str]] = []
    if hardware is not None:
        rows = [
            ("device", f"{hardware.name} ({hardware.kind})"),
            ("driver", hardware.driver),
            (
                "memory",
                (
                    f"{format_bytes(hardware.total_bytes)}, {format_bytes(hardware.free_bytes)} free, "
                    f"{format_bytes(hardware.others_bytes)} held by other processes"
                ),
            ),
            ("limit", "none" if hardware.limit_bytes is None else format_bytes(hardware.limit_bytes)),
            ("budget", format_bytes(hardware.budget_bytes)),
        ]
    if prints is not None:
        rows += [(setting_name(one), f"{one.chosen}: {one.why}") for one in evidence.runtime]
        rows += [("torch", prints.torch), *prints.versions, *prints.runtime, ("fingerprint", prints.key)]
    return tuple(rows)


def setting_name(one: RuntimeChoice) -> str:
    """The name of the setting, and of the stage if it is for one only."""
    name = one.setting.replace("_", " ")
    return f"{name}, {one.stage}" if one.stage else name


def _data(evidence: Evidence) -> Facts:
    data = evidence.dataset
    if data is None and evidence.noun:
        return (("samples", f"the workload's own {evidence.noun}"),)
    if data is None:
        bench = evidence.config.test_bench.name if evidence.config else "one complex"
        return (("dataset", f"none: copies of the sample complex {bench}"),)
    rows = [
        ("path", data.path),
        (
            of_data(evidence.noun),
            (
                f"{format_count(data.n_usable)} of {format_count(data.n_complexes)} usable, "
                f"{format_count(data.n_labelled)} labelled, {format_count(data.n_trained)} trained on"
            ),
        ),
    ]
    if data.oversize:
        rows.append((f"oversize: {data.oversize_policy}", ", ".join(data.oversize)))
    rows += (
        [("largest", "; ".join(f"{name} ({_sizes(sizes)})" for name, sizes in data.largest))] if data.largest else []
    )
    return tuple(rows)


def _sizes(sizes: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{format_count(size)} {name}" for name, size in sizes)


def _cost(evidence: Evidence) -> Facts:
    cost = evidence.probe_costs
    rows: list[tuple[str, str]] = []
    if cost is not None:
        phases: list[tuple[str, int, int]] = [
            ("runtime settings", cost.runtime_probes, cost.runtime_steps),
            ("calibrate", cost.calibrate_probes, cost.calibrate_steps),
            ("search", cost.search_probes, cost.search_steps),
            ("certify", cost.certify_probes, cost.certify_steps),
        ]
        rows = [(phase, f"{probes:,} probes, {steps:,} steps") for phase, probes, steps in phases if probes]
        rows += [("from the ledger", f"{cost.reused:,} probes of an earlier run")] if cost.reused else []
        rows += [("ran out of memory", f"{cost.out_of_memory:,} probes")]
        rows += [("in all", format_seconds(cost.wall_s))] if cost.wall_s else []
    if evidence.probes:
        n_failed = sum(not outcome.ok for _, outcome in evidence.probes)
        failed = f", {n_failed} of which did not run to their end" if n_failed else ""
        rows.append(("the ledger", f"{len(evidence.probes):,} probes on this machine{failed}"))
    return tuple(rows)
