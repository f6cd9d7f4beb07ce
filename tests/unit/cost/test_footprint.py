import pytest

from compass.cost.footprint import (
    COMPILER_BYTES,
    COMPILER_SLACK,
    GROWN_SLACK_BYTES,
    OVERRUN_SHARE,
    SEEN_CONSTANT_BYTES,
    SLACK_CERTIFIED,
    SLACK_EXPANDABLE,
    SLACK_EXPANDABLE_CHECKPOINTING,
    SLACK_HEAP,
    TELLING_BYTES,
    fit_footprint,
)
from compass.cost.memory import MemoryModel
from compass.cost.observation import Probe
from compass.optimizer_config import MemoryRules
from compass.records import (
    Affine,
    Batch,
    BytesLaw,
    Hardware,
    Knobs,
    Load,
    Outcome,
    ProbeSpec,
    RuntimeSettings,
    Status,
    Variant,
)

MIB = 1024**2
RULES = MemoryRules()
CONSTANT = RULES.footprint_constant_bytes
BASELINE = 350 * MIB
PLAIN = Knobs(layers=4, channels=64)
RECOMPUTING = Knobs(layers=4, channels=64, variant=Variant(checkpointing=True))
LOAD = Load(graphs=8, sizes=(("nodes", 1000.0),))


class FlatMemory(MemoryModel):
    """A MiB a node, whatever the model."""

    def law(self, knobs):
        return BytesLaw(segments=(("all", Affine(base=0, per_unit=(("nodes", float(MIB)),))),))


MEMORY = FlatMemory(("nodes",), {knobs.variant: {} for knobs in (PLAIN, RECOMPUTING)})


def probe(knobs=PLAIN, *, allocator="fast", fresh=True, ceiling_bytes=None, **outcome):
    spec = ProbeSpec(
        knobs=knobs, batches=(Batch(synthetic=LOAD),), min_steps=1, max_steps=1, timeout_s=1, fresh=fresh,
        ceiling_bytes=ceiling_bytes, runtime=RuntimeSettings(threads=1, allocator=allocator),
    )  # fmt: skip
    return Probe(spec, Outcome(**{"status": Status.OK, "load": LOAD, **outcome}))


def fitted(*probes, on_cpu=True, expandable=False):
    hardware = Hardware(
        kind="cpu" if on_cpu else "cuda", name="", driver="", total_bytes=0, free_bytes=0, others_bytes=0, budget_bytes=0,
        expandable_segments=expandable,
    )  # fmt: skip
    return fit_footprint(RULES, probes, MEMORY, hardware, baseline_bytes=BASELINE)


def held(ratio, live_bytes=1000 * MIB):
    return {"live_bytes": live_bytes, "footprint_bytes": round(BASELINE + SEEN_CONSTANT_BYTES + ratio * live_bytes)}


@pytest.mark.parametrize(
    ("on_cpu", "allocator", "knobs", "ratio"),
    [
        (True, "tight", PLAIN, RULES.footprint_ratio_tight),
        (True, "tight", RECOMPUTING, RULES.footprint_ratio_tight),
        (True, "fast", PLAIN, RULES.footprint_ratio_fast),
        (True, "system", PLAIN, RULES.footprint_ratio_fast),
        (True, "fast", RECOMPUTING, RULES.footprint_ratio_checkpointing),
        (True, "tight_huge", RECOMPUTING, RULES.footprint_ratio_tight),
        (True, "tcmalloc", PLAIN, RULES.footprint_ratio_joined),
        (True, "tcmalloc", RECOMPUTING, RULES.footprint_ratio_joined_checkpointing),
        (True, "jemalloc", PLAIN, 1.15 * RULES.footprint_ratio_fast),
        (False, "fast", PLAIN, RULES.footprint_ratio_accelerator),
        (False, "tight", RECOMPUTING, RULES.footprint_ratio_accelerator_checkpointing),
    ],
)
def test_before_anything_was_seen_the_configured_upper_values_hold(on_cpu, allocator, knobs, ratio):
    assert fitted(on_cpu=on_cpu).ratio(knobs, allocator) == ratio


def test_what_was_seen_of_a_configuration_holds_for_it_alone():
    model = fitted(probe(**held(1.6)), probe(**held(1.5)))
    assert model.ratio(PLAIN, "fast") == pytest.approx(1.6 * (1 + SLACK_HEAP))
    assert model.ratio(PLAIN, "tight") == RULES.footprint_ratio_tight
    assert model.ratio(RECOMPUTING, "fast") == RULES.footprint_ratio_checkpointing


def test_a_footprint_is_never_promised_under_its_live_bytes():
    assert fitted(probe(allocator="tight", **held(0.9))).ratio(PLAIN, "tight") == 1.0


def test_a_heap_goes_on_fragmenting_so_what_was_seen_only_raises_its_bound():
    assert fitted(probe(**held(1.2))).ratio(PLAIN, "fast") == RULES.footprint_ratio_fast


@pytest.mark.parametrize(
    "told",
    [
        {**held(1.2), "fresh": False},  # on a CPU a used process has history
        held(1.2, live_bytes=100 * MIB),  # too little to tell the ratio from the constant
        {"status": Status.CRASHED, "ceiling_bytes": 900 * MIB},
        {"status": Status.OUT_OF_MEMORY},  # under no ceiling of ours
    ],
)
def test_what_tells_nothing(told):
    assert fitted(probe(**told)).seen == {}


def test_a_used_process_tells_on_an_accelerator():
    assert fitted(probe(**held(1.2), fresh=False), on_cpu=False).ratio(PLAIN, "fast") == pytest.approx(1.32)


GROWN = 240 * MIB
"""By the kernels of an accelerator's first step."""


def on_segments(knobs, ratio, live_bytes=1000 * MIB, allocator="fast"):
    slack_bytes = GROWN_SLACK_BYTES if live_bytes >= TELLING_BYTES else 0
    footprint_bytes = round(BASELINE + GROWN + slack_bytes + ratio * live_bytes)
    return probe(knobs, allocator=allocator, live_bytes=live_bytes, footprint_bytes=footprint_bytes, fresh=False)


def test_small_probes_tell_what_an_accelerators_kernels_take():
    model = fitted(on_segments(PLAIN, 1.0, 50 * MIB), on_segments(PLAIN, 1.2), on_cpu=False, expandable=True)
    law = model.complete(MEMORY.law(PLAIN), PLAIN, "fast")
    assert law.baseline_bytes == BASELINE + GROWN + GROWN_SLACK_BYTES
    assert model.ratio(PLAIN, "fast") == pytest.approx(1.2 * (1 + SLACK_EXPANDABLE))


def test_a_slice_of_an_accelerator_tells_its_ratio_by_its_largest_probes():
    """None of them holds 256 MiB; those under half of the largest are mostly constant, and do not count."""
    probes = [on_segments(PLAIN, 1.0, n * MIB) for n in (10, 60, 120)]
    model = fitted(*probes, on_cpu=False, expandable=True)
    assert model.ratio(PLAIN, "fast") == pytest.approx(1 + SLACK_EXPANDABLE)
    wasteful = [on_segments(PLAIN, 1.0, 10 * MIB), on_segments(PLAIN, 1.15, 120 * MIB)]
    learned = fitted(*wasteful, on_cpu=False, expandable=True)
    assert learned.ratio(PLAIN, "fast") >= 1.0
    law = learned.complete(MEMORY.law(PLAIN), PLAIN, "fast")
    assert law.baseline_bytes + law.footprint_ratio * 120 * MIB >= wasteful[1].outcome.footprint_bytes


def test_the_kernels_of_fixed_segments_are_not_counted_twice():
    """What all small probes held is a constant; only the rest grows with live bytes."""
    small, large = on_segments(PLAIN, 1.25, 20 * MIB), on_segments(PLAIN, 1.3)
    model = fitted(small, large, on_cpu=False)
    assert model.ratio(PLAIN, "fast") == pytest.approx((1.3 + GROWN_SLACK_BYTES / (1000 * MIB)) * 1.1, rel=0.02)
    assert model.complete(MEMORY.law(PLAIN), PLAIN, "fast").baseline_bytes >= BASELINE + GROWN


def test_without_small_probes_all_but_the_least_constant_counts_as_growing():
    assert fitted(on_segments(PLAIN, 1.3), on_cpu=False).ratio(PLAIN, "fast") > 1.5


def test_small_certificates_tell_what_training_adds_on_a_cpu():
    held_bytes = round(BASELINE + CONSTANT + 20 * MIB + RULES.footprint_ratio_fast * 50 * MIB)
    model = fitted(probe(live_bytes=50 * MIB, footprint_bytes=held_bytes))
    assert model.complete(MEMORY.law(PLAIN), PLAIN, "tight").baseline_bytes == pytest.approx(
        BASELINE + CONSTANT + 20 * MIB + GROWN_SLACK_BYTES, abs=2
    )


def test_expandable_segments_waste_alike_in_all_models_and_under_either_heap():
    small = on_segments(PLAIN, 1.0, 50 * MIB)
    seen = [small, on_segments(Knobs(layers=2, channels=32), 1.02), on_segments(Knobs(layers=6, channels=96), 1.01)]
    model = fitted(*seen, on_cpu=False, expandable=True)
    for allocator in ("fast", "tight"):
        assert model.ratio(PLAIN, allocator) == pytest.approx(1.02 * (1 + SLACK_EXPANDABLE))
    assert model.ratio(PLAIN, "system") == RULES.footprint_ratio_accelerator  # which is not asked to expand
    assert model.ratio(RECOMPUTING, "fast") == RULES.footprint_ratio_accelerator_checkpointing  # as none was seen
    recomputing = fitted(*seen, on_segments(RECOMPUTING, 1.07), on_cpu=False, expandable=True)
    assert recomputing.ratio(RECOMPUTING, "tight") == pytest.approx(1.07 * (1 + SLACK_EXPANDABLE_CHECKPOINTING))


def test_a_certificate_of_a_model_itself_says_more_than_its_kin():
    other = on_segments(Knobs(layers=2, channels=32), 1.05)
    certificate = on_segments(PLAIN, 1.02)
    batches = (*certificate.spec.batches, *certificate.spec.batches)
    certificate = certificate._replace(spec=certificate.spec.model_copy(update={"batches": batches}))
    model = fitted(on_segments(PLAIN, 1.0, 50 * MIB), other, certificate, on_cpu=False, expandable=True)
    assert model.ratio(PLAIN, "fast") == pytest.approx(1.02 * (1 + SLACK_CERTIFIED))
    assert model.ratio(Knobs(layers=9, channels=96), "fast") == pytest.approx(1.05 * (1 + SLACK_EXPANDABLE))


def test_running_out_says_that_more_than_the_ceiling_was_wanted():
    ceiling = BASELINE + SEEN_CONSTANT_BYTES + 1500 * MIB
    model = fitted(probe(status=Status.OUT_OF_MEMORY, ceiling_bytes=ceiling))
    assert model.ratio(PLAIN, "fast") == pytest.approx(1.5 * (1 + OVERRUN_SHARE) * (1 + SLACK_HEAP))
    law = model.complete(MEMORY.law(PLAIN), PLAIN, "fast")
    assert law.upper_footprint(LOAD) > ceiling  # so the same batch is not tried again


@pytest.mark.parametrize("allocator", ["tight", "fast"])
def test_training_tells_what_the_next_process_will_hold(allocator):
    """Nobody profiled it, so its live bytes are the predicted ones: 1,000 MiB."""
    trained = probe(allocator=allocator, source="training", **{**held(1.6), "live_bytes": None})
    model = fitted(probe(allocator=allocator, **held(1.5)), trained)
    assert model.ratio(PLAIN, allocator) == pytest.approx(1.6 * (1 + SLACK_HEAP))


def test_the_completed_law():
    law = fitted().complete(MEMORY.law(PLAIN), PLAIN, "tight")
    assert law.baseline_bytes == BASELINE + CONSTANT
    assert law.upper_footprint(LOAD) == pytest.approx(BASELINE + CONSTANT + RULES.footprint_ratio_tight * 1000 * MIB)


def test_every_further_overrun_of_a_model_is_taken_more_seriously():
    ratios = [
        fitted(*[probe(status=Status.OUT_OF_MEMORY, ceiling_bytes=4096 * MIB)] * n).ratio(PLAIN, "fast")
        for n in (1, 2, 3)
    ]
    assert ratios[0] < ratios[1] / 1.2 < ratios[2] / 1.2**2


def test_a_compiler_is_held_beside_the_model():
    """On a CPU; what a small fresh process showed, with some slack, but no less than a cautious value: kernels may come from a cache."""
    knobs = PLAIN.model_copy(update={"variant": Variant(compiled=True)})
    law, bound = MEMORY.law(knobs), lambda model, of: model.complete(law, of, "fast").baseline_bytes
    assert bound(fitted(), knobs) == bound(fitted(), PLAIN) + COMPILER_BYTES
    small = probe(knobs, live_bytes=MIB, footprint_bytes=BASELINE + CONSTANT + 2000 * MIB)
    seen = fitted(small)
    assert bound(seen, PLAIN) == BASELINE + CONSTANT
    assert bound(seen, knobs) == pytest.approx(BASELINE + CONSTANT + (1 + COMPILER_SLACK) * 2000 * MIB, rel=0.01)
    large = probe(knobs, live_bytes=1000 * MIB, footprint_bytes=BASELINE + 3800 * MIB)
    assert fitted(small, large).ratio(knobs, "fast") == pytest.approx(RULES.footprint_ratio_fast, rel=0.05)
    assert bound(fitted(small, on_cpu=False), knobs) == bound(fitted(on_cpu=False), PLAIN)
