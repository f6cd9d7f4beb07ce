"""The wording of records, in one place, so that page, terminal, Markdown and tables agree."""

from __future__ import annotations

from compass.optimizer_config import OptimizerConfig
from compass.records import (
    STAGES,
    Candidate,
    CandidateVerdict,
    Configuration,
    Knobs,
    Model,
    Stage,
    StagePlan,
    shape_name,
)
from compass.records.nouns import counted, of_batch, singular
from compass.reporting.evidence import Evidence
from compass.units import format_bytes, format_count, format_seconds

STAGE_NAMES: dict[Stage, str] = {stage: stage.replace("_", " ").capitalize() for stage in STAGES}
VERDICTS: dict[CandidateVerdict, str] = {
    "chosen": "chosen",
    "admissible": "admissible",
    "untried": "not tried",
    "memory": "too much memory",
    "time": "too slow",
    "batch": "batch too small",
    "data": "over the data cap",
    "space": "size of another stage",
    "model": "does not run",
}
LIMITED_BY = {
    "nothing": "Limited by nothing: this stage takes the smallest model and one {sample}.",
    "memory": "Limited by memory: a larger batch might not fit.",
    "time": "Limited by time: with one more {sample} the cycle would be longer than its target.",
    "data": "Limited by data: with more of it, the model or its batch could be larger.",
    "space": "Limited by the space: no larger model or batch is configured.",
    "score": "Limited by the score: a larger batch would be no faster, and no other model scores better.",
}
"""The limit that keeps a plan from being larger or faster; see `limit_words`."""


def limit_words(limited_by: str, noun: str) -> str:
    """The limit that keeps a plan from being larger or faster, in a sentence; `noun` is the workload's."""
    known = LIMITED_BY.get(limited_by)
    return f"Limited by {limited_by}." if known is None else known.format(sample=singular(of_batch(noun)))


def plan_limit_words(plan: StagePlan, noun: str, config: OptimizerConfig | None) -> str:
    """The limit on `plan` in a sentence. More data would not enlarge a fixed model, so there the setting that limits its batch is named."""
    if config is None or plan.limited_by != "data" or not plan.choice.knobs.is_fixed:
        return limit_words(plan.limited_by, noun)
    share = f"{config.batch.training_share:.0%} of the training set"
    return f"Limited by data: a batch is at most {share}, the setting batch.training_share."


def model_name(one: Knobs | Model) -> str:
    """Layers, channels and variant, e.g. `5 × 96 fp32`."""
    label = one.variant.label if isinstance(one, Knobs) else one.label
    return f"{shape_name(one.layers, one.channels)} {label}"


def of_bytes(used: float, allowed: float) -> str:
    """Two sizes, with a common unit written once, e.g. `3.42 of 4.00 GiB`."""
    (few, unit), (many, other) = (format_bytes(n_bytes).split() for n_bytes in (used, allowed))
    return f"{few} of {many} {other}" if unit == other else f"{few} {unit} of {many} {other}"


def rate(graphs_per_s: float) -> str:
    """Graphs, or other samples, per second in three digits, thousands with separators."""
    return f"{graphs_per_s:,.0f}" if graphs_per_s >= 100 else f"{graphs_per_s:.3g}"


def rate_unit(noun: str) -> str:
    """The unit of throughput, e.g. `graphs/s`; `noun` is the workload's."""
    return f"{of_batch(noun)}/s"


def share(value: float) -> str:
    """A share in per cent: whole numbers from 10 on, one decimal below."""
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
    """The reason why a candidate was not chosen."""
    verdict = VERDICTS[row.verdict]
    if row.reason:
        return f"{verdict}: {row.reason}"
    return _limit_on_model(row, evidence, stage) or _limit_on_batch(row, evidence) or verdict


def _limit_on_model(row: Candidate, evidence: Evidence, stage: Stage) -> str | None:
    if row.verdict == "data" and evidence.data_cap:
        return f"more than the {format_count(evidence.data_cap)} parameters that the dataset allows"
    if row.verdict == "space" and evidence.reference and (span := searched_share(stage, evidence.config)):
        low, high = (share(end) for end in span)
        return f"{share(row.capacity / evidence.reference.capacity)} of the production model's parameters; {low} to {high} are searched"
    return None


def _limit_on_batch(row: Candidate, evidence: Evidence) -> str | None:
    config, hardware = evidence.config, evidence.hardware
    if row.verdict == "memory" and row.footprint_bound_bytes is not None and hardware:
        one = singular(of_batch(evidence.noun))
        return f"one {one} may need {format_bytes(row.footprint_bound_bytes)} of {format_bytes(hardware.budget_bytes)}"
    if row.verdict == "time" and row.step_s is not None and config:
        return f"a cycle of {format_seconds(row.step_s * config.cycle_batches)} even at batch 1"
    if row.verdict == "batch" and config:
        least = counted(config.batch.min_batch, of_batch(evidence.noun))
        return f"memory for a batch of {row.batch_size}; other models hold at least {least}"
    return None


def searched_share(stage: Stage, config: OptimizerConfig | None) -> tuple[float, float] | None:
    """The share of the reference's capacity that the stage searches; None if it searches all, or it is not known."""
    return None if config is None else config.space.share(stage)


def batch_words(plan: StagePlan, noun: str) -> str:
    """The graphs in a batch, or what `noun` calls them, and the batches in a weight update."""
    members = counted(plan.choice.batch_size, of_batch(noun))
    if plan.accumulate == 1:
        return members
    return f"{members}, {plan.accumulate} batches per weight update"


def allowed_s(stage: Stage, config: OptimizerConfig | None) -> float | None:
    """Seconds of the longest admissible cycle; None if there is no limit, or it is not known."""
    rules = config.stages[stage] if config else None
    return None if rules is None or rules.target_s is None else rules.target_s + rules.window_s


def choice_words(choice: Configuration) -> str:
    """A configuration and its batch."""
    return f"{model_name(choice.knobs)}, batch {format_count(choice.batch_size)}"
