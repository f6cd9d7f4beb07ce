"""Findings in words: the result of a test, its meaning, and a remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compass.cost.observation import Probe
from compass.records import Knobs, Load, Outcome
from compass.records.nouns import SAMPLES
from compass.workload_check.report import Finding, Fit
from compass.workload_check.sizes import MEDIAN_LIMIT, PADDED, WORST_LIMIT

TIME_LIMIT = 0.15
"""Median relative error of step times that is worth a note. One timing of a model lowers it; a busy machine raises it."""


def about_determinism(first: Outcome, again: Outcome) -> list[Finding]:
    """Whether two equal probes gave equal losses."""
    if first.losses == again.losses and first.losses:
        text = f"equal steps give equal losses ({', '.join(f'{loss:.6g}' for loss in first.losses)})"
        return [Finding(level="good", about="steps", text=text)]
    pairs = ", ".join(f"{one:.6g} and {other:.6g}" for one, other in zip(first.losses, again.losses, strict=False))
    text = f"equal seeds give different losses: {pairs}. Seed all random draws in `build` and `collate`"
    return [Finding(level="note", about="steps", text=text)]


def about_layers(outcome: Outcome) -> list[Finding]:
    """Whether the model's layers were found."""
    if any(name.endswith(":last") for name, _ in outcome.segments):
        return []
    text = "`blocks` names no layers, so the peak of memory is located by the parts of the model"
    return [Finding(level="note", about="layers", text=text)]


def about_parameters(seen: Sequence[Probe], counted: Mapping[Knobs, int]) -> list[Finding]:
    """Whether the models that ran have as many parameters as when they are only built."""
    for spec, outcome in seen:
        if outcome.parameters != counted[spec.knobs]:
            text = (
                f"{spec.knobs} has {outcome.parameters:,} trainable parameters in a step, but {counted[spec.knobs]:,} when "
                "built: `loss` or the first forward pass adds or freezes some. Do that in `build`"
            )
            return [Finding(level="bad", about="parameters", text=text)]
    return [Finding(level="good", about="parameters", text=f"the counts of {len(counted)} models are right")]


def about_sums(probes: Sequence[Probe], samples: Mapping[str, Load], noun: str) -> list[Finding]:
    """Whether a batch's load is the sum of its members' loads; `noun` is the workload's."""
    for spec, outcome in probes:
        batch = spec.batches[0]
        if batch.members and outcome.load != (total := batch.load(samples)):
            returned = "nothing" if outcome.load is None else outcome.load.in_words(noun)
            text = (
                f"`load` returns {returned}, but the samples sum to {total.in_words(noun)}. Batches are chosen by sums"
            )
            return [Finding(level="bad", about="loads", text=text)]
    return []


def about_padding(samples: Mapping[str, Load]) -> list[Finding]:
    """What padding means for batches, if the workload declares it."""
    padded = next(iter(samples.values())).padded
    if not padded:
        return []
    text = (
        f"members are padded to the longest ({', '.join(padded)}): a fixed batch is safe, because its longest samples are "
        "certified together; mixed batches take less. Training batches samples of like length"
    )
    return [Finding(level="good", about="padding", text=text)]


def about_loads(fit: Fit | None, n_samples: int) -> Finding:
    """Whether the declared sizes explain live bytes."""
    if fit is None:
        text = "too few different batches to test whether memory follows the declared sizes"
        return Finding(level="note", about="memory", text=text)
    errors = f"errors of {fit.median:.2%} (median) and {fit.worst:.2%} (worst of {fit.n}) on batches that were left out"
    if fit.median <= MEDIAN_LIMIT and fit.worst <= WORST_LIMIT:
        return Finding(level="good", about="memory", text=f"follows the declared sizes: {errors}")
    if fit.missing is None:
        text = f"does not follow the declared sizes: {errors}. No square, product, ratio or padding of them explains it"
        return Finding(level="bad", about="memory", text=text)
    found = f"{fit.missing} explains it (worst {fit.with_missing or 0.0:.2%})"
    if PADDED in fit.missing:
        size = fit.missing.partition(",")[0]
        advice = (
            f'If batches are padded to their longest member, declare `padded = "{size}"`, as a size of every sample if it is '
            "none yet; until then a mixed batch needs more memory than its prediction"
        )
    elif n_samples == 1 and fit.missing == SAMPLES:
        advice = "Declare a size that is 1 for every sample"
    else:
        advice = "Declare it as a size of every sample"
    return Finding(level="bad", about="memory", text=f"does not follow the declared sizes: {errors}. {found}. {advice}")


def about_knobs(fit: Fit | None) -> Finding:
    """Whether depth and width explain live bytes."""
    if fit is None:
        return Finding(level="note", about="models", text="no model was tried that calibration does not probe")
    errors = (
        f"errors of {fit.median:.2%} (median) and {fit.worst:.2%} (worst of {fit.n}) on models that were not probed"
    )
    if fit.median <= MEDIAN_LIMIT and fit.worst <= WORST_LIMIT:
        return Finding(level="good", about="models", text=f"memory follows layers and channels: {errors}")
    text = f"memory does not follow layers and channels: {errors}. Inner widths that do not grow with them, or that jump, cause this"
    return Finding(level="bad", about="models", text=text)


def about_time(fit: Fit | None) -> Finding:
    """Whether step times can be predicted."""
    if fit is None:
        return Finding(level="note", about="time", text="no model was timed that calibration does not time")
    text = f"errors of {fit.median:.1%} (median) and {fit.worst:.1%} (worst of {fit.n}) on models that were not timed"
    return Finding(level="good" if fit.median <= TIME_LIMIT else "note", about="time", text=text)
