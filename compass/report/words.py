"""How records are said to a person: one place, so that page, terminal, Markdown and tables say the same."""

from __future__ import annotations

from compass.optimizer_config import OptimizerConfig
from compass.records import Candidate, Choice, Knobs, Model, Stage, StagePlan, Verdict
from compass.report.evidence import Evidence
from compass.units import format_bytes, format_count, format_seconds

STAGE_NAMES: dict[Stage, str] = {
    "smoke_test": "Smoke test",
    "prototyping": "Prototyping",
    "validation": "Validation",
    "production": "Production",
}
QUESTIONS: dict[Stage, str] = {
    "smoke_test": "Does it run at all?",
    "prototyping": "Which ideas are worth more?",
    "validation": "Does the finding hold when the model grows?",
    "production": "How good can it get?",
}
VERDICTS: dict[Verdict, str] = {
    "chosen": "chosen",
    "admissible": "would do",
    "untried": "not tried",
    "memory": "too much memory",
    "time": "too slow",
    "batch": "batch too small",
    "data": "more than the data feed",
    "space": "another stage's size",
    "model": "does not run",
}
BINDS = {
    "nothing": "Nothing binds: this stage takes the smallest model and one graph.",
    "memory": "Memory binds: a larger batch would not be sure to fit.",
    "time": "Time binds: one graph more would make the cycle longer than its target.",
    "data": "Data bind: the dataset allows no larger model or batch.",
    "space": "The space binds: nothing larger is among the models or batches that are configured.",
    "score": "Nothing binds: a larger batch would be no faster, and no other model scores better.",
}
"""What keeps a plan from being larger or faster."""


def model_name(one: Knobs | Model) -> str:
    """Layers, channels and variant, e.g. `5 × 96 fp32`."""
    if isinstance(one, Knobs):
        return f"{one.layers} × {one.channels} {one.variant}"
    return f"{one.layers} × {one.channels} {variant_name(one)}"


def variant_name(one: Model) -> str:
    """Precision, and whether activations are recomputed."""
    return f"{one.precision}{'+checkpointing' if one.checkpointing else ''}"


def of_bytes(used: float, allowed: float) -> str:
    """Two sizes, the unit said once if it is the same, e.g. `3.42 of 4.00 GiB`."""
    (few, unit), (many, other) = (format_bytes(n_bytes).split() for n_bytes in (used, allowed))
    return f"{few} of {many} {other}" if unit == other else f"{few} {unit} of {many} {other}"


def rate(graphs_per_s: float) -> str:
    """Graphs per second in three digits, thousands with separators."""
    return f"{graphs_per_s:,.0f}" if graphs_per_s >= 100 else f"{graphs_per_s:.3g}"


def share(value: float) -> str:
    """A share in per cent: whole ones from 10 on, one digit more below."""
    percent = 100 * value
    return f"{percent:.0f} %" if abs(percent) >= 10 or percent == 0 else f"{percent:.1f} %"


def change(before: float, after: float) -> str:
    """How `after` compares with `before`: `the same`, `12 % more`, `3.4 times as much` …, without a unit."""
    if before <= 0 or abs(after / before - 1) < 0.005:
        return "the same"
    ratio = after / before
    if ratio >= 2:
        return f"{ratio:.1f} times as much"
    return f"{abs(ratio - 1):.0%} {'more' if ratio > 1 else 'less'}"


def why_not(row: Candidate, evidence: Evidence, stage: Stage) -> str:
    """What keeps a candidate from being chosen."""
    verdict = VERDICTS[row.verdict]
    if row.reason:
        return f"{verdict}: {row.reason}"
    return _limit_on_model(row, evidence, stage) or _limit_on_batch(row, evidence) or verdict


def _limit_on_model(row: Candidate, evidence: Evidence, stage: Stage) -> str | None:
    if row.verdict == "data" and evidence.data_cap:
        return f"more than the {format_count(evidence.data_cap)} parameters that the data feed"
    if row.verdict == "space" and evidence.reference and (span := span_of(stage, evidence.config)):
        low, high = (share(end) for end in span)
        return f"{share(row.capacity / evidence.reference.capacity)} of production's size; {low} to {high} are searched"
    return None


def _limit_on_batch(row: Candidate, evidence: Evidence) -> str | None:
    config, hardware = evidence.config, evidence.hardware
    if row.verdict == "memory" and row.footprint_bytes is not None and hardware:
        return f"one graph may need {format_bytes(row.footprint_bytes)} of {format_bytes(hardware.budget_bytes)}"
    if row.verdict == "time" and row.step_s is not None and config:
        return f"a cycle of {format_seconds(row.step_s * config.cycle_batches)} even at batch 1"
    if row.verdict == "batch" and config:
        return f"room for {row.batch_size} graph, others hold at least {config.batch.min_batch}"
    return None


def span_of(stage: Stage, config: OptimizerConfig | None) -> tuple[float, float] | None:
    """The stage's share of the reference's capacity, where it has one."""
    if config is None:
        return None
    return {"prototyping": config.space.small_share, "validation": config.space.large_share}.get(stage)


def batch_words(plan: StagePlan) -> str:
    """The batch and what an update gathers."""
    choice = plan.choice
    graphs = "1 graph" if choice.batch_size == 1 else f"{format_count(choice.batch_size)} graphs"
    if plan.accumulate == 1:
        return graphs
    return f"{graphs}, {plan.accumulate} batches a weight update"


def allowed_s(stage: Stage, config: OptimizerConfig | None) -> float | None:
    """The longest admissible cycle; None where there is no limit, or it is not known."""
    rules = config.stages[stage] if config else None
    return None if rules is None or rules.target_s is None else rules.target_s + rules.window_s


def choice_words(choice: Choice) -> str:
    """A configuration and its batch."""
    return f"{model_name(choice.knobs)}, batch {format_count(choice.batch_size)}"
