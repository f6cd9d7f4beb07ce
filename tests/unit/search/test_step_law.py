"""A step's time as a plane about a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.records import Load

TIMES = {
    "launching and work": lambda graphs: 0.5 + graphs / 10,
    "launching alone": lambda graphs: 0.3 + 0 * graphs,
    "a floor": lambda graphs: np.maximum(0.5, graphs / 10),
    "saturating": np.sqrt,
    "noise that falls": lambda graphs: 1.0 - graphs / 1000,
}


def nodes(n):
    return Load(graphs=max(1, round(n)), sizes=(("nodes", float(n)),))


def law_of(known, step_s, *, batch_size=20, measured_s=2.0, at=20.0):
    known = known({(2, 32): {"capacity": 1000, "step_s": step_s}})
    (knobs,) = known.capacities
    choice = known.choice(knobs, known.config.stages.production, batch_size)
    return known.step_law(choice, measured_s, nodes(at))


def test_it_is_the_time_model_scaled_to_what_was_measured(known):
    law = law_of(known, TIMES["launching and work"], measured_s=5.0)
    assert law.at(nodes(20)) == pytest.approx(5.0)
    assert law.at(nodes(22)) == pytest.approx(5.4)
    assert law.base == pytest.approx(1.0)
    assert law.varies


def test_where_launching_takes_all_the_time_the_load_makes_no_difference(known):
    assert not law_of(known, TIMES["launching alone"]).varies


@pytest.mark.parametrize("name", TIMES)
@given(batch_size=st.integers(1, 60), measured_s=st.floats(1e-3, 1e3), share=st.floats(0.5, 2))
def test_it_passes_through_the_measurement_and_never_falls(known, name, batch_size, measured_s, share):
    at = batch_size * share
    law = law_of(known, TIMES[name], batch_size=batch_size, measured_s=measured_s, at=at)
    assert law.at(nodes(at)) == pytest.approx(measured_s)
    assert law.base >= 0
    assert all(rate >= 0 for _, rate in law.per_unit)
