import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.data.structures.graphs import synthetic_load_for
from compass.optimizer_config import ProbeRules
from compass.probe.requests import certificate_probe, micro_probes, more_micro_probes, synthetic_batches, timing_probe
from compass.records import Batch, Knobs, Load, RuntimeSettings, Variant

RULES = ProbeRules()
RUNTIME = RuntimeSettings(threads=2)
KINDS = (Variant(), Variant(checkpointing=True))
KNOBS = Knobs(layers=3, channels=48)
BATCH = Batch(members=(("1ia1", 4),))


def micro(batches=None, kinds=KINDS):
    return list(micro_probes(RULES, kinds, batches or synthetic_batches(RULES), RUNTIME, n_steps=2))


def test_every_variant_is_probed_alike():
    design = {kind: [] for kind in KINDS}
    for spec in micro():
        design[spec.knobs.variant].append((spec.knobs.layers, spec.knobs.channels, spec.batches))
    first, second = design.values()
    assert first == second
    crossed = len(RULES.micro_architectures) * len(RULES.micro_loads)
    assert len(first) == len(set(first)) == crossed + len(RULES.extra_architectures)


def test_a_micro_probe_is_small_and_fixed():
    for spec in micro():
        assert (spec.min_steps, spec.max_steps, spec.fresh, spec.ceiling_bytes, spec.profile) == (
            2,
            2,
            False,
            None,
            True,
        )
        assert (spec.timeout_s, spec.runtime) == (RULES.micro_timeout_s, RUNTIME)


def test_compiling_has_time_of_its_own():
    kind = Variant(compiled=True)
    for spec in micro(kinds=[kind]):
        assert spec.timeout_s == RULES.micro_timeout_s + RULES.compile_timeout_s
    plain, compiled = (
        timing_probe(RULES, KNOBS.model_copy(update={"variant": one}), BATCH, RUNTIME) for one in (Variant(), kind)
    )
    assert compiled.timeout_s == plain.timeout_s + RULES.compile_timeout_s


def test_synthetic_loads_count_self_loops_and_can_be_made():
    loads = {spec.batches[0].synthetic for spec in micro()}
    assert loads == {
        Load(graphs=1, sizes=(("nodes", nodes), ("edges", nodes * (neighbours + 1))))
        for nodes, neighbours in RULES.micro_loads
    }
    for load in loads:
        graph = synthetic_load_for(int(load["nodes"]), int(load["edges"]), 0)
        assert (graph.n_nodes, graph.n_edges) == (load["nodes"], load["edges"])


def test_a_workloads_own_batches_are_probed_as_they_are():
    batches = tuple(Batch(members=(("a", n),)) for n in (2, 4, 8))
    asked = [spec.batches for spec in micro(batches, KINDS[:1])]
    shapes = len(RULES.micro_architectures)
    assert asked == [(batch,) for batch in batches] * shapes + [batches[:1]] * len(RULES.extra_architectures)
    more = more_micro_probes(RULES, KINDS[0], batches, RUNTIME, n_steps=2)
    assert [spec.batches for spec in more] == [(batch,) for batch in batches] * len(RULES.more_architectures)


def test_a_timing_probe_only_times():
    spec = timing_probe(RULES, KNOBS, BATCH, RUNTIME)
    assert (spec.knobs, spec.batches, spec.runtime) == (KNOBS, (BATCH,), RUNTIME)
    assert (spec.min_steps, spec.max_steps) == RULES.anchor_steps
    assert (spec.profile, spec.fresh, spec.ceiling_bytes) == (False, False, None)


def certificate(n_batches, step_s):
    batches = tuple(Batch(members=(("1ia1", n + 1),)) for n in range(n_batches))
    spec = certificate_probe(RULES, KNOBS, batches, step_s=step_s, ceiling_bytes=2**30, runtime=RUNTIME)
    assert spec.batches == batches
    return spec


def test_a_certificate_is_fresh_and_under_the_ceiling():
    spec = certificate(7, 1.0)
    assert (spec.fresh, spec.ceiling_bytes, spec.settle_share) == (True, 2**30, RULES.settle_share)


@pytest.mark.parametrize(
    ("step_s", "n_more", "timeout_s"),
    [
        (1e-3, 14, RULES.timeout_floor_s),  # twice its batches more, at most
        (RULES.patience_s / 3, 3, RULES.timeout_factor * 7 * RULES.patience_s),
        (2 * RULES.patience_s, 0, RULES.timeout_factor * 21 * 2 * RULES.patience_s),
    ],
)
def test_a_certificates_patience(step_s, n_more, timeout_s):
    spec = certificate(7, step_s)
    assert (spec.min_steps, spec.max_steps) == (7, 7 + n_more)
    assert spec.timeout_s == pytest.approx(timeout_s)


@given(st.integers(1, 20), st.floats(1e-6, 1e5))
def test_a_certificate_is_never_cut_short(n_batches, step_s):
    """By its own count of steps, or by a clock that runs out before they could be done."""
    spec = certificate(n_batches, step_s)
    assert n_batches == spec.min_steps <= spec.max_steps <= 3 * n_batches
    assert spec.timeout_s > spec.max_steps * step_s
