"""A known law is recovered exactly: what the peaks of a segment are made of, and the largest of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.cost.memory import (
    USUAL_FORM,
    Form,
    MemoryModel,
    _amplified,
    _left_out,
    _margins,
    _rows,
    _without_exceptions,
    fit_memory,
    shape_of,
)
from compass.cost.observation import Probe
from compass.optimizer_config import ProbeRules
from compass.records import Batch, Knobs, Load, Outcome, ProbeSpec, RuntimeSettings, Status, Variant

FEATURES = ("nodes", "edges")
PLAIN, RECOMPUTING = Variant(), Variant(checkpointing=True)
FLOOR = 0.01


def forward(depth, width, n, e):
    return n * (40 + 3 * width + 5 * depth + 9 * depth * width) + e * (16 + 2 * width + 4 * depth + 6 * depth * width)


def tail(depth, width, n, e):
    weights = 1000 + 30 * width + 8 * width**2 + 20 * depth + 50 * depth * width + 24 * depth * width**2
    return n * (8 + 12 * width) + e * 4 + 12 * weights


def inner(depth, width, n, e):
    return 3 * n * width * depth + 20 * e * width + 7 * width**2 * depth


LAWS = {"forward": forward, "backward:inner": inner, "tail": tail}


def peaks(knobs, load, noise=0.0):
    laws = {name: law for name, law in LAWS.items() if knobs.layers > 2 or name != "backward:inner"}
    return tuple(
        (name, round(law(knobs.layers, knobs.channels, load["nodes"], load["edges"]) * (1 + noise)))
        for name, law in laws.items()
    )


def probed(noise=lambda index: 0.0, variant=PLAIN, more=(), peaks=peaks, count=lambda depth, width: None):
    """The calibration's own design, and `more` shapes at every load, answered by the laws."""
    rules = ProbeRules()
    loads = [load_of(nodes, nodes * (neighbours + 1)) for nodes, neighbours in rules.micro_loads]
    design = [(shape, load) for shape in (*rules.micro_architectures, *more) for load in loads]
    design += [(shape, loads[0]) for shape in rules.extra_architectures]
    found = []
    for index, ((depth, width), load) in enumerate(design):
        knobs = Knobs(layers=depth, channels=width, variant=variant)
        spec = ProbeSpec(
            knobs=knobs, batches=(Batch(synthetic=load),), min_steps=1, max_steps=1, timeout_s=1,
            runtime=RuntimeSettings(threads=1),
        )  # fmt: skip
        outcome = Outcome(
            status=Status.OK, load=load, segments=peaks(knobs, load, noise(index)), parameters=count(depth, width)
        )
        found.append(Probe(spec, outcome))
    return found


def load_of(nodes, edges):
    return Load(graphs=1, sizes=(("nodes", nodes), ("edges", edges)))


@given(st.integers(1, 16), st.integers(1, 32), st.integers(1, 10**5), st.floats(1, 40))
def test_a_known_law_is_recovered(depth, width, nodes, neighbours):
    model = fit_memory(FEATURES, probed(), margin_floor=FLOOR)
    knobs, load = Knobs(layers=depth, channels=16 * width), load_of(nodes, nodes * neighbours)
    truth = max(n_bytes for _, n_bytes in peaks(knobs, load))
    law = model.law(knobs)
    assert law.live(load) == pytest.approx(truth, rel=1e-5)
    assert law.upper_live(load) == pytest.approx(truth * (1 + FLOOR), rel=1e-5)


@pytest.mark.parametrize(
    ("load", "name"), [(load_of(1, 0), "tail"), (load_of(10, 10**5), "forward"), (load_of(10**5, 1), "forward")]
)
def test_the_largest_segment_is_the_peak(load, name):
    law = fit_memory(FEATURES, probed(), margin_floor=FLOOR).law(Knobs(layers=6, channels=128))
    assert law.live(load) == dict(law.segments)[name].at(load) == max(piece.at(load) for _, piece in law.segments)


@pytest.mark.parametrize(("depth", "names"), [(1, ["forward", "tail"]), (2, ["forward", "tail"]), (3, list(LAWS))])
def test_a_model_of_few_layers_has_no_inner_segment(depth, names):
    law = fit_memory(FEATURES, probed(), margin_floor=FLOOR).law(Knobs(layers=depth, channels=64))
    assert [name for name, _ in law.segments] == names


@given(st.integers(1, 16), st.integers(1, 32), st.tuples(*[st.floats(0, 10**5)] * 4))
def test_more_load_never_needs_less(depth, width, sizes):
    law = fit_memory(FEATURES, probed(), margin_floor=FLOOR).law(Knobs(layers=depth, channels=16 * width))
    nodes, edges, more_nodes, more_edges = sizes
    small, large = load_of(nodes, edges), load_of(nodes + more_nodes, edges + more_edges)
    assert law.live(small) <= law.live(large) * (1 + 1e-9) + 1


def test_variants_are_fitted_apart():
    plain, recomputing = probed(), probed(noise=lambda _: -0.5, variant=RECOMPUTING)
    model = fit_memory(FEATURES, plain + recomputing, margin_floor=FLOOR)
    load = load_of(400, 11_000)
    whole, half = (model.law(Knobs(layers=5, channels=96, variant=kind)).live(load) for kind in (PLAIN, RECOMPUTING))
    assert half == pytest.approx(whole / 2, rel=1e-5)
    with pytest.raises(KeyError):
        model.law(Knobs(layers=5, channels=96, variant=Variant(precision="bf16")))


def test_probes_that_failed_or_were_not_profiled_teach_nothing():
    crashed = [Probe(p.spec, Outcome(status=Status.CRASHED)) for p in probed()]
    unprofiled = [Probe(p.spec, p.outcome.model_copy(update={"segments": ()})) for p in probed()]
    assert fit_memory(FEATURES, crashed + unprofiled, margin_floor=FLOOR).coefficients == {}


def test_where_the_form_does_not_hold_the_margin_widens():
    rng = np.random.default_rng(0)
    off = list(rng.uniform(-0.05, 0.05, 100))
    probes = probed() + probed()  # twice, so that any can be left out
    exact = fit_memory(FEATURES, probes, margin_floor=FLOOR).margins[PLAIN]
    noisy = fit_memory(FEATURES, probed() + probed(noise=lambda i: off[i]), margin_floor=FLOOR)
    assert exact == FLOOR
    assert noisy.margins[PLAIN] > 0.05
    worst = max(
        dict(p.outcome.segments)["forward"] / dict(noisy.law(p.spec.knobs).segments)["forward"].at(p.outcome.load)
        for p in probed(noise=lambda i: off[i])
    )
    assert worst <= 1 + noisy.margins[PLAIN]


def squared(depth, width, n, e):
    """Of a model that holds a matrix for every node."""
    return n * (9 * depth * width + 2 * width**2) + 6 * e * depth * width + 12 * width**2 * depth


def peaks_squared(knobs, load, noise=0.0):
    n_bytes = squared(knobs.layers, knobs.channels, load["nodes"], load["edges"])
    return (("forward", round(n_bytes * (1 + noise))),)


def test_a_matrix_for_every_node_is_found_once_more_widths_were_seen():
    usual = ProbeRules()
    model = fit_memory(FEATURES, probed(peaks=peaks_squared, more=usual.more_architectures), margin_floor=FLOOR)
    assert model.forms == {PLAIN: Form(wide=True)}
    assert model.misfits[PLAIN] < 1e-3
    load = load_of(5000, 40_000)
    assert model.law(Knobs(layers=7, channels=192)).live(load) == pytest.approx(squared(7, 192, 5000, 40_000), rel=1e-4)


def cubic(depth, width):
    """Weights of a tensor product that mixes all channels with all, as in NequIP."""
    return 500 + 3 * width + depth * (width**3 // 8 + 40 * width**2)


def peaks_cubic(knobs, load, noise=0.0):
    depth, width = knobs.layers, knobs.channels
    rows = load["nodes"] * (40 + 9 * depth * width) + load["edges"] * (16 + 6 * depth * width)
    return (("forward", round((rows + 8 * cubic(depth, width)) * (1 + noise))), ("tail", 16 * cubic(depth, width)))


def test_weights_that_grow_with_another_power_are_counted():
    more = ProbeRules().more_architectures
    probes = probed(peaks=peaks_cubic, count=cubic, more=more)
    model = fit_memory(FEATURES, probes, margin_floor=FLOOR)
    assert model.forms == {PLAIN: Form(counted=True)}
    assert model.misfits[PLAIN] < 1e-3
    knobs, load = Knobs(layers=7, channels=192), load_of(5000, 40_000)
    with pytest.raises(KeyError):
        model.law(knobs)  # nobody counted it
    told = fit_memory(FEATURES, probes, margin_floor=FLOOR, parameters={shape_of(knobs): cubic(7, 192)})
    expected = max(n_bytes for _, n_bytes in peaks_cubic(knobs, load))
    assert told.law(knobs).live(load) == pytest.approx(expected, rel=1e-4)
    blind = fit_memory(FEATURES, probed(peaks=peaks_cubic, more=more), margin_floor=FLOOR)
    assert blind.misfits[PLAIN] > ProbeRules().poor_fit


def test_a_probe_that_contradicts_the_form_is_noticed():
    anchors = ProbeRules().anchor_architectures_cpu
    probes = probed(peaks=peaks_squared, more=anchors)
    told = [
        p
        for p in probes
        if (p.spec.knobs.layers, p.spec.knobs.channels) not in anchors or p.outcome.load["edges"] == 9900
    ]
    model = fit_memory(FEATURES, told, margin_floor=FLOOR)
    assert model.forms == {PLAIN: USUAL_FORM}  # three wide models at one load do not tell nodes from edges
    assert model.misfits[PLAIN] > ProbeRules().poor_fit


def test_more_widths_leave_a_law_of_the_usual_form_alone():
    model = fit_memory(FEATURES, probed(more=ProbeRules().more_architectures), margin_floor=FLOOR)
    assert model.forms == {PLAIN: USUAL_FORM}
    assert model.margins[PLAIN] == FLOOR


def test_a_single_probe_contradicts_nothing():
    model = fit_memory(FEATURES, probed()[:1], margin_floor=FLOOR)
    assert (model.margins[PLAIN], model.misfits[PLAIN], model.forms[PLAIN]) == (FLOOR, 0.0, USUAL_FORM)


def test_a_workspace_that_grows_in_steps_costs_bytes_and_no_share_of_the_load():
    """100 MiB from 64 channels on: as a share of the small probes it would be many times the load."""
    workspace = 100 * 2**20

    def stepped(knobs, load, noise=0.0):
        extra = workspace if knobs.channels >= 64 else 0
        return tuple((name, n_bytes + extra) for name, n_bytes in peaks(knobs, load))

    small = probed(peaks=stepped, more=ProbeRules().more_architectures)
    large_load = load_of(200_000, 3_000_000)
    large = []
    for probe in small[:12]:
        outcome = probe.outcome.model_copy(
            update={"load": large_load, "segments": stepped(probe.spec.knobs, large_load)}
        )
        large.append(Probe(probe.spec, outcome))
    model = fit_memory(FEATURES, [*small, *large], margin_floor=FLOOR)
    assert model.margins[PLAIN] < 0.1
    assert workspace / 4 < model.margins_bytes[PLAIN] < 20 * workspace
    only_small = fit_memory(FEATURES, small, margin_floor=FLOOR)
    knobs = Knobs(layers=5, channels=80)
    held = max(n_bytes for _, n_bytes in stepped(knobs, large_load))
    bounds = [one.law(knobs).upper_live(large_load) + one.margins_bytes[PLAIN] for one in (model, only_small)]
    assert held <= bounds[0] < bounds[1]


def stepping(knobs, load, noise=0.0):
    """A library's workspace grows in steps of the width, which no form has."""
    step = 9_000_000 if knobs.channels >= 96 else 2_000_000 if knobs.channels >= 48 else 0
    return tuple((name, n_bytes + step) for name, n_bytes in peaks(knobs, load, noise))


def test_a_model_that_was_probed_is_known_where_no_form_holds():
    model = fit_memory(FEATURES, probed(peaks=stepping, more=((8, 112),)), margin_floor=FLOOR)
    assert model.misfits[PLAIN] > ProbeRules().poor_fit
    seen, unseen = Knobs(layers=8, channels=112), Knobs(layers=8, channels=128)
    assert model.observed(seen)
    assert not model.observed(unseen)
    assert model.margin(seen)[0] < 0.3 * model.margin(unseen)[0]
    assert model.hopeful().margin(unseen) == model.margin(seen)
    load = load_of(2_000, 30_000)
    truth = max(n_bytes for _, n_bytes in stepping(seen, load))
    assert truth <= model.law(seen).upper_live(load) + model.margin(seen)[1] < 1.5 * truth


def test_where_a_form_holds_every_model_counts_as_observed():
    model = fit_memory(FEATURES, probed(), margin_floor=FLOOR)
    assert (model.offsets, model.own_margins) == ({}, {})
    assert model.observed(Knobs(layers=9, channels=256))
    assert model.hopeful() == model


@pytest.mark.parametrize(
    ("errors", "peaks_", "share", "n_bytes"),
    [
        ([0.02, -0.01], [100.0, 80.0], 0.02, 0.0),
        ([0.1, 0.02], [11.0, 102.0], 0.02, (0.1 - 0.02) * 10),  # what a small probe exceeds is an amount of bytes
        ([0.1, 0.02], [25.0, 100.0], 0.1, 0.0),  # a quarter of the largest is not small
        ([0.1, 0.05], [11.0, 21.0], 0.1, 0.0),  # without a large one, all is a share
        ([-0.1, -0.2], [90.0, 100.0], 0.0, 0.0),
        ([], [], 0.0, 0.0),
    ],
)
def test_a_margin_is_twice_what_probes_exceeded(errors, peaks_, share, n_bytes):
    found = _margins(np.array(errors), np.array(peaks_), largest=100.0)
    assert found == pytest.approx((2 * share, 2 * n_bytes))


@pytest.mark.parametrize(
    ("rows", "row", "expected"),
    [
        ([[1.0]], [1.0], 1.0),
        ([[1.0]], [2.0], 2.0),
        ([[1.0], [1.0]], [1.0], np.sqrt(0.5)),
        ([[1.0, 0.0]], [0.0, 1.0], np.inf),
        ([[1.0, 0.0], [1.0, 1.0]], [1.0, 2.0], np.sqrt(5)),
    ],
)
def test_how_much_a_prediction_amplifies_the_errors_of_others(rows, row, expected):
    assert _amplified(np.array(rows), np.array(row)) == pytest.approx(expected)


def test_only_what_the_others_determine_is_judged():
    three = probed()[:3]  # three loads of one model: none is determined by two others
    assert [len(found) for found in _left_out(FEATURES, three, USUAL_FORM)] == [0, 0]
    every = probed(more=ProbeRules().more_architectures)
    errors, seen = _left_out(FEATURES, every, USUAL_FORM)
    assert 0 < len(errors) == len(seen) < len(every)
    assert errors == pytest.approx(0, abs=1e-4)


def test_the_rows_of_a_law():
    probe = probed()[0]
    depth, width = probe.spec.knobs.layers, probe.spec.knobs.channels
    nodes, edges = probe.outcome.load["nodes"], probe.outcome.load["edges"]
    units, fixed = [1, width, depth, depth * width], [1, width, width**2, depth, depth * width, depth * width**2]
    [row] = _rows(FEATURES, [probe], USUAL_FORM)
    assert row.tolist() == [*(nodes * unit for unit in units), *(edges * unit for unit in units), *fixed]
    [wide] = _rows(FEATURES, [probe], Form(wide=True, counted=True))
    units += [width**2, depth * width**2]
    assert wide.tolist() == [*(nodes * unit for unit in units), *(edges * unit for unit in units), *fixed, 0.0]


def test_margins_and_counts_of_models_are_their_own():
    own, other = Knobs(layers=2, channels=32), Knobs(layers=4, channels=64)
    model = MemoryModel(
        FEATURES,
        {PLAIN: {}},
        margins={PLAIN: 0.1},
        margins_bytes={PLAIN: 7.0},
        offsets={own: {}},
        own_margins={PLAIN: (0.02, 3.0)},
    )
    assert (model.margin(own), model.margin(other)) == ((0.02, 3.0), (0.1, 7.0))
    assert (model.observed(own), model.observed(other)) == (True, False)
    assert model.hopeful().margin(other) == (0.02, 3.0)
    assert MemoryModel(FEATURES, {}).margin(own) == (0.0, 0.0)
    assert model.observed(own.model_copy(update={"variant": RECOMPUTING}))
    assert (model.knows(PLAIN), model.knows(RECOMPUTING)) == (True, False)


def of_one_model(*n_bytes):
    """Probes of one model whose batches have 1, 2, 3 … nodes."""
    probe = probed()[0]
    loads = [load_of(float(n), 0.0) for n in range(1, len(n_bytes) + 1)]
    return [
        Probe(probe.spec, probe.outcome.model_copy(update={"load": load, "segments": (("step", held),)}))
        for load, held in zip(loads, n_bytes, strict=True)
    ]


def fitted_line(*n_bytes):
    model = fit_memory(FEATURES, of_one_model(*n_bytes), margin_floor=FLOOR)
    return [model.law(probed()[0].spec.knobs).live(load_of(float(n), 0.0)) for n in (1, 10, 100)], model


@pytest.mark.parametrize(("small", "n_others"), [([500], 5), ([500], 4), ([100, 400], 4), ([900], 4)])
def test_the_smallest_loads_may_run_through_other_kernels(small, n_others):
    line = [1_000 + 100 * n for n in range(len(small) + 1, len(small) + n_others + 1)]
    found, model = fitted_line(*small, *line)
    assert found == pytest.approx([1_100, 2_000, 11_000], rel=1e-6)
    assert model.misfits[PLAIN] == pytest.approx(0, abs=1e-9)
    assert model.margins[PLAIN] == FLOOR


@pytest.mark.parametrize(
    "n_bytes",
    [
        [500, 1_200, 1_300, 1_400],  # too few others
        [1_100, 1_200, 1_500, 1_200, 1_700, 1_300],  # no line without the smallest either
        [1_100, 1_200, 1_300, 1_400, 1_500, 2_600],  # the largest is none of the smallest
    ],
)
def test_other_loads_are_no_exceptions(n_bytes):
    _, model = fitted_line(*n_bytes)
    assert model.misfits[PLAIN] > 0.02
    assert model.margins[PLAIN] > FLOOR


def test_probes_of_several_models_have_no_exceptions():
    one, other = of_one_model(500, 1_200, 1_300, 1_400, 1_500), of_one_model(500, 1_200, 1_300, 1_400, 1_500)
    wider = [Probe(p.spec.model_copy(update={"knobs": Knobs(layers=9, channels=256)}), p.outcome) for p in other]
    assert _without_exceptions(FEATURES, [*one, *wider]) == [*one, *wider]
    assert _without_exceptions(FEATURES, one) == one[1:]
