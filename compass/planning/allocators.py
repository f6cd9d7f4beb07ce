"""The C allocators of this machine, each measured on one batch of a large model, in a fresh process.

The calibration knows the steps and the memory under one allocator. One short probe tells how another changes both; the
certificates of plans that use it tell more.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Iterator, Sequence

from compass.planning.experiment import Experiment
from compass.planning.forecast import ALLOCATORS as ALLOCATORS_PART
from compass.planning.prober import Probed, Prober
from compass.probe.preload import is_offered
from compass.probe.requests import timing_probe
from compass.records import ALLOCATORS, Allocator, Knobs, ProbeSpec, RuntimeChoice, RuntimeTrial, Stage
from compass.records.nouns import counted, of_batch
from compass.units import format_bytes, format_seconds

FILL_SHARE = 0.6
"""Share of the budget that the trial may fill by its bound: what an allocator costs grows with the memory that a step frees."""
LONGEST_S = 1.5
"""Longest predicted step of the trial (s)."""
NEARLY = 1.1
"""An allocator whose step and whose memory are at most this many times the best possible leaves the others nothing to gain."""


def measure_allocators(experiment: Experiment, prober: Prober, stages: Sequence[Stage]) -> RuntimeChoice | None:
    """Measure the allocators that `stages` may choose from and this machine offers.

    None on an accelerator, which has its own, and where no model runs.
    The order is that of `ALLOCATORS`, libraries first, and it ends at the first that leaves the others nothing to gain. Those that
    return memory make steps two to three times as long: they are measured only where memory limits the model.
    """
    knobs = trial_model(experiment) if experiment.on_cpu else None
    if knobs is None:
        return None
    base = experiment.calibrated_allocator
    allowed = [experiment.config.stages[stage].allocator for stage in stages]
    offers = _offers(experiment)
    wanted = [name for name in _order() if name != base and any(name in names for names in allowed) and offers(name)]
    tried: dict[Allocator, Probed] = {}

    def run(names: Sequence[Allocator]) -> None:
        specs = [trial_spec(experiment, knobs, name) for name in names]
        prober.prepare(specs)
        for name, spec in zip(names, specs, strict=True):
            prober.report("runtime", f"allocator {name}", len(tried), len(wanted) + 1, part=ALLOCATORS_PART)
            tried[name] = prober.probe("runtime", spec, expected=experiment.expected(spec))
        experiment.allocators = tuple(name for name, probed in tried.items() if name != base and probed.outcome.ok)

    for name in wanted:
        if ALLOCATORS[name].returns_memory and not _needs_tight(experiment, allowed):
            continue
        run([name] if tried else [base, name])  # side by side, the first two workers start sooner
        if _leaves_nothing(tried[base], tried[name]):
            break
    choice = describe_trials(base, tried, experiment.noun)
    hint = missing_allocator(experiment, knobs, {name for names in allowed for name in names})
    return choice if hint is None else choice.model_copy(update={"why": f"{choice.why}; {hint}"})


def _offers(experiment: Experiment) -> Callable[[Allocator], bool]:
    """Whether an allocator is offered where the experiment's probes run."""
    return is_offered if experiment.host is None else experiment.host.offers


def _needs_tight(experiment: Experiment, allowed: Sequence[tuple[Allocator, ...]]) -> bool:
    """Whether only an allocator that returns memory lets the largest model run, or is all that a stage allows."""
    if any(all(ALLOCATORS[name].returns_memory for name in names) for names in allowed):
        return True
    known = experiment.known()
    rules = known.config.stages.production
    fed = known.candidates(rules, 0, math.inf)
    least = (1 - known.config.space.reference_share) * max((known.capacities[knobs] for knobs in fed), default=0)
    return not any(
        known.largest_batch(knobs, rules) >= known.config.batch.min_batch
        for knobs in fed
        if known.capacities[knobs] >= least
    )


def missing_allocator(experiment: Experiment, knobs: Knobs, wanted: Collection[Allocator]) -> str | None:
    """What installing an allocator that wastes little would gain here, by estimate; None if none is missing."""
    missing = next((kind for kind in ALLOCATORS.values() if kind.joins_pieces and kind.name in wanted), None)
    if sys.platform != "linux" or missing is None or _offers(experiment)(missing.name):
        return None
    known, base = experiment.known(), experiment.calibrated_allocator
    rules = known.config.stages.production
    batches = [known.largest_batch(knobs, rules, name) for name in (missing.name, base)]
    return (
        f"{missing.name} is not installed (Debian: apt install {missing.package}): by estimate it would hold batches of "
        f"{counted(batches[0], of_batch(known.noun))} in place of {batches[1]}, about as fast"
    )


def _order() -> Iterator[Allocator]:
    """Libraries before glibc's settings: those that keep memory without waste make the rest needless."""
    yield from sorted(ALLOCATORS, key=lambda name: not ALLOCATORS[name].library)


def trial_model(experiment: Experiment) -> Knobs | None:
    """The largest model that the data can feed and one graph of which fits, without activation checkpointing if possible.

    None: no model runs.
    """
    known = experiment.known()
    rules = known.config.stages.production
    working = [knobs for knobs in known.capacities if known.pruned.broken(knobs) is None]
    models = sorted(working, key=lambda knobs: (knobs.variant.departures, -known.capacities[knobs]))
    fed = [knobs for knobs in models if known.capacities[knobs] <= known.data_cap]
    base = experiment.calibrated_allocator
    return next((knobs for knobs in fed if known.largest_batch(knobs, rules, base)), models[-1] if models else None)


def trial_spec(experiment: Experiment, knobs: Knobs, allocator: Allocator) -> ProbeSpec:
    """The trial of `allocator`: the same batch as of every other, in a fresh process, whose footprint is the allocator's own."""
    known, loads = experiment.known(), experiment.sample_loads
    law = known.costs.bytes_law(knobs, experiment.calibrated_allocator)
    most_bytes = law.baseline_bytes + FILL_SHARE * (known.budget_bytes - law.baseline_bytes)

    def suits(n_graphs: int) -> bool:
        load = loads.load(loads.typical(n_graphs))
        return law.upper_footprint(load) <= most_bytes and known.step_s(knobs, load) <= LONGEST_S

    batch = loads.typical(max(1, known.most_graphs(suits)))
    spec = timing_probe(
        known.config.probe,
        knobs,
        batch,
        experiment.runtime(allocator),
        on_cpu=True,
        profile=True,
        step_s=known.step_s(knobs, loads.load(batch)),
    )
    return spec.model_copy(update={"fresh": True})


def _leaves_nothing(base: Probed, other: Probed) -> bool:
    """Whether `other` is nearly as fast as the calibration's allocator, and its footprint nearly the live bytes."""
    step, base_step, outcome = other.outcome.step, base.outcome.step, other.outcome
    if step is None or base_step is None or not (outcome.footprint_bytes and outcome.live_bytes):
        return False
    held_bytes = outcome.footprint_bytes - (outcome.baseline_bytes or 0)
    return step.median_s <= NEARLY * base_step.median_s and held_bytes <= NEARLY * outcome.live_bytes


def describe_trials(base: Allocator, tried: dict[Allocator, Probed], noun: str = "") -> RuntimeChoice:
    """What each allocator costs in time and memory; `base` is the calibration's, `noun` the workload's."""
    if not tried:
        why = "no library is installed that could be faster or hold less, and memory does not limit the model"
        return RuntimeChoice(setting="allocator", chosen=base, why=why)
    rows = tuple(
        RuntimeTrial(
            value=name,
            step_s=probed.outcome.step.median_s if probed.outcome.step else None,
            footprint_bytes=probed.outcome.footprint_bytes,
        )
        for name, probed in tried.items()
    )
    ran = [row for row in rows if row.step_s is not None]
    spec = next(iter(tried.values())).spec
    on = f"one step of {spec.knobs} on {counted(sum(n for _, n in spec.batches[-1].members), of_batch(noun))}"
    if not ran:
        return RuntimeChoice(setting="allocator", chosen=rows[0].value, why=f"{on} did not run", tried=rows)
    parts = [
        f"{format_seconds(row.step_s or 0)} and {format_bytes(row.footprint_bytes or 0)} under {row.value}"
        for row in ran
    ]
    fastest = min(ran, key=lambda row: row.step_s or 0.0)
    slowest_s = max(row.step_s or 0.0 for row in ran)
    return RuntimeChoice(
        setting="allocator",
        chosen=fastest.value,
        why=f"{on} takes {', '.join(parts)}; a stage that lacks memory may choose another",
        tried=rows,
        gain=slowest_s / (fastest.step_s or slowest_s) if len(ran) > 1 else None,
    )
