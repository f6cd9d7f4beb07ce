"""What Optuna's samplers are asked and told."""

import math

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compass.records import AXES, Knobs, Variant
from compass.search.samplers import TrialResult, grid_values, nearest, sample

NAMES = ("gp", "tpe", "random", "grid")
SHAPES = [(depth, 16 * width) for depth in range(2, 9) for width in range(1, 17) if 12 <= 16 * width / depth <= 32]
KINDS = [Variant(precision=p, checkpointing=c) for p in ("fp32", "bf16") for c in (False, True)]

spaces = st.builds(
    lambda shapes, kinds: [Knobs(layers=d, channels=w, variant=kind) for kind in kinds for d, w in shapes],
    st.lists(st.sampled_from(SHAPES), min_size=1, unique=True),
    st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
)


def described(knobs):
    return {"layers": knobs.layers, "channels": knobs.channels, **knobs.variant.axis_values}


@given(spaces)
def test_a_model_of_the_space_is_nearest_to_itself(models):
    for knobs in models:
        assert nearest(described(knobs), models) == knobs


@given(spaces, st.integers(1, 40))
def test_a_grid_has_no_more_points_than_trials(models, n_trials):
    values = grid_values(models, n_trials)
    n_kinds = math.prod(len(values[axis.name]) for axis in AXES)
    assert math.prod(map(len, values.values())) <= max(n_trials, n_kinds)
    for name, chosen in values.items():
        assert set(chosen) <= {described(knobs)[name] for knobs in models}


def test_a_grid_spreads_to_both_ends():
    models = [Knobs(layers=d, channels=w) for d, w in SHAPES]
    assert grid_values(models, 12) == {
        "layers": [2, 5, 8],
        "channels": [32, 112, 176, 256],
        **{axis.name: [axis.default] for axis in AXES},
    }


def test_a_grid_of_one_point_is_in_the_middle():
    values = grid_values([Knobs(layers=d, channels=w) for d, w in SHAPES], 1)
    assert (values["layers"], values["channels"]) == ([5], [144])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=6, deadline=None)
@given(models=spaces, n_trials=st.integers(1, 8), seed=st.integers(0, 99))
def test_no_model_is_tried_twice_and_none_from_outside(name, models, n_trials, seed):
    tried = []

    def try_model(knobs):
        tried.append(knobs)
        return [TrialResult(1.0 + 1 / knobs.channels, -0.1), TrialResult(3.0, 0.2), TrialResult(math.nan, 0.1)][
            knobs.layers % 3
        ]

    results = sample(name, models, try_model, n_trials=n_trials, seed=seed)
    assert list(results) == tried
    assert 1 <= len(tried) == len(set(tried)) <= n_trials
    assert set(tried) <= set(models)
    again = sample(name, models, try_model, n_trials=n_trials, seed=seed)
    assert again.keys() == results.keys()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_space_asks_for_nothing(name):
    assert sample(name, [], lambda _: pytest.fail("nothing to try"), n_trials=3, seed=0) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit_is_complete_and_what_breaks_failed(name, monkeypatch):
    studies = []
    create = optuna.create_study
    monkeypatch.setattr(optuna, "create_study", lambda **given: studies.append(create(**given)) or studies[-1])
    models = [Knobs(layers=d, channels=w) for d, w in SHAPES]

    def try_model(knobs):
        if knobs.layers == 5:
            return TrialResult(math.nan, 0.1)
        too_big = knobs.channels > 100
        return TrialResult(3.0 if too_big else 1.0, 0.3 if too_big else -0.2)

    results = sample(name, models, try_model, n_trials=12, seed=3)
    told = [(trial.state.name, trial.values, trial.constraints) for trial in studies[0].trials]
    assert len(told) == 12
    possible = [
        ("COMPLETE", [1.0], {"admissible": -0.2}), ("COMPLETE", [3.0], {"admissible": 0.3}), ("FAIL", None, {}),
    ]  # fmt: skip
    assert all(item in possible for item in told)
    assert {result.score for result in results.values()} & {1.0, 3.0}


def test_an_interrupt_escapes():
    def try_model(knobs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample("random", [Knobs(layers=2, channels=32)], try_model, n_trials=3, seed=0)
