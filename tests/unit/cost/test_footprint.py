import pytest

from compass.cost.footprint import OVERRUN_FACTOR, SEEN_CONSTANT_BYTES, SEEN_SLACK, fit_footprint
from compass.cost.memory import MemoryModel
from compass.cost.observation import Probe
from compass.optimizer_config import MemoryRules
from compass.records import (
    AffineBytes,
    Batch,
    BytesLaw,
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
        return BytesLaw(segments=(("all", AffineBytes(base=0, per_unit=(("nodes", float(MIB)),))),))


MEMORY = FlatMemory(("nodes",), {})


def probe(knobs=PLAIN, *, allocator="fast", fresh=True, ceiling_bytes=None, **outcome):
    spec = ProbeSpec(
        knobs=knobs, batches=(Batch(synthetic=LOAD),), min_steps=1, max_steps=1, timeout_s=1, fresh=fresh,
        ceiling_bytes=ceiling_bytes, runtime=RuntimeSettings(threads=1, allocator=allocator),
    )  # fmt: skip
    return Probe(spec, Outcome(**{"status": Status.OK, "load": LOAD, **outcome}))


def fitted(*probes, on_cpu=True):
    return fit_footprint(RULES, probes, MEMORY, baseline_bytes=BASELINE, on_cpu=on_cpu)


def held(ratio, live_bytes=1000 * MIB):
    return {"live_bytes": live_bytes, "footprint_bytes": round(BASELINE + SEEN_CONSTANT_BYTES + ratio * live_bytes)}


@pytest.mark.parametrize(
    ("on_cpu", "allocator", "knobs", "ratio"),
    [
        (True, "tight", PLAIN, RULES.footprint_ratio_tight),
        (True, "tight", RECOMPUTING, RULES.footprint_ratio_tight),
        (True, "fast", PLAIN, RULES.footprint_ratio_fast),
        (True, "system", PLAIN, RULES.footprint_ratio_fast),
        (True, "fast", RECOMPUTING, RULES.footprint_ratio_recomputing),
        (False, "fast", PLAIN, RULES.footprint_ratio_accelerator),
        (False, "tight", RECOMPUTING, RULES.footprint_ratio_accelerator_recomputing),
    ],
)
def test_before_anything_was_seen_the_configured_upper_values_hold(on_cpu, allocator, knobs, ratio):
    assert fitted(on_cpu=on_cpu).ratio(knobs, allocator) == ratio


def test_what_was_seen_of_a_configuration_holds_for_it_alone():
    model = fitted(probe(**held(1.6)), probe(**held(1.5)))
    assert model.ratio(PLAIN, "fast") == pytest.approx(1.6 * (1 + SEEN_SLACK))
    assert model.ratio(PLAIN, "tight") == RULES.footprint_ratio_tight
    assert model.ratio(RECOMPUTING, "fast") == RULES.footprint_ratio_recomputing


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


def test_running_out_says_that_more_than_the_ceiling_was_wanted():
    ceiling = BASELINE + SEEN_CONSTANT_BYTES + 1500 * MIB
    model = fitted(probe(status=Status.OUT_OF_MEMORY, ceiling_bytes=ceiling))
    assert model.ratio(PLAIN, "fast") == pytest.approx(1.5 * OVERRUN_FACTOR * (1 + SEEN_SLACK))
    law = model.complete(MEMORY.law(PLAIN), PLAIN, "fast")
    assert law.upper_footprint(LOAD) > ceiling  # so the same batch is not tried again


@pytest.mark.parametrize("allocator", ["tight", "fast"])
def test_training_tells_what_the_next_process_will_hold(allocator):
    """Nobody profiled it, so its live bytes are the predicted ones: 1,000 MiB."""
    trained = probe(allocator=allocator, source="training", **{**held(1.6), "live_bytes": None})
    model = fitted(probe(allocator=allocator, **held(1.5)), trained)
    assert model.ratio(PLAIN, allocator) == pytest.approx(1.6 * (1 + SEEN_SLACK))


def test_the_completed_law():
    law = fitted().complete(MEMORY.law(PLAIN), PLAIN, "tight")
    assert law.baseline_bytes == BASELINE + CONSTANT
    assert law.upper_footprint(LOAD) == pytest.approx(BASELINE + CONSTANT + RULES.footprint_ratio_tight * 1000 * MIB)
