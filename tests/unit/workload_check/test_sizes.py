"""The missing size is found among synthetic batches whose memory follows a known law."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.records import Batch, Load
from compass.workload_check.questions import real_batches
from compass.workload_check.sizes import PADDED, assess_sizes, left_out, members_of, possible_sizes

LENGTHS = (20, 35, 60, 90, 150)
SAMPLES = {str(n): Load(graphs=1, sizes=(("tokens", float(n)),)) for n in LENGTHS}
BATCHES = [Batch(members=((str(n), copies),)) for n, copies in ((20, 2), (20, 8), (60, 4))] + real_batches(SAMPLES, 0)
MEMBERS = [members_of(batch, SAMPLES) for batch in BATCHES]
LOADS = np.array([members.sum(axis=0) for members in MEMBERS])
TERMS = {
    "samples": len,
    "tokens_squared": lambda m: (m**2).sum(),
    f"tokens, {PADDED}": lambda m: len(m) * m.max(),
    f"tokens_squared, {PADDED}": lambda m: len(m) * m.max() ** 2,
}


def held(term, share):
    """Bytes with `share` of the typical batch in `term`, in two segments whose order depends on the batch."""
    extra = np.array([float(TERMS[term](members)) for members in MEMBERS])
    extra *= share * 1000 * LOADS[:, 0].mean() / extra.mean()
    return [
        {"forward": 1e5 + 1000 * load + more, "backward": 2e5 + 900 * load + more}
        for load, more in zip(LOADS[:, 0], extra, strict=True)
    ]


@pytest.mark.parametrize("term", TERMS)
def test_the_missing_size_is_named(term):
    fit = assess_sizes(("tokens",), LOADS, held(term, 0.8), possible_sizes(("tokens",), MEMBERS))
    assert fit.missing == term
    assert fit.with_missing < 1e-6
    assert fit.worst > 0.03


@given(st.floats(0, 1e-3), st.sampled_from(sorted(TERMS)))
def test_what_is_explained_misses_nothing(share, term):
    fit = assess_sizes(("tokens",), LOADS, held(term, share), possible_sizes(("tokens",), MEMBERS))
    assert fit.worst < 0.03
    assert fit.missing is None
    assert dict(fit.without)["tokens"] > 0.1


def test_noise_has_no_name():
    rng = np.random.default_rng(0)
    values = [{"forward": float(value)} for value in rng.uniform(1e6, 2e6, len(LOADS))]
    fit = assess_sizes(("tokens",), LOADS, values, possible_sizes(("tokens",), MEMBERS))
    assert fit.worst > 0.03
    assert fit.missing is None or fit.with_missing < 0.5 * fit.worst


def test_too_few_batches_say_nothing():
    assert left_out(LOADS[:1], [{"forward": 1.0}]) is None
    assert assess_sizes(("tokens",), LOADS[:1], [{"forward": 1.0}], {}) is None


def test_two_sizes_and_what_they_make():
    pairs = np.array([[3.0, 9.0], [5.0, 30.0]])
    found = possible_sizes(("atoms", "bonds"), [pairs])
    assert list(found)[:4] == ["samples", "atoms_squared", "bonds_squared", "atoms × bonds"]
    assert found["atoms × bonds"][0] == 3 * 9 + 5 * 30
    assert found["bonds_squared / atoms"][0] == 81 / 3 + 900 / 5
    assert found[f"bonds, {PADDED}"][0] == 2 * 30


def test_a_synthetic_batch_is_one_member():
    load = Load(graphs=4, sizes=(("tokens", 128.0),))
    assert members_of(Batch(synthetic=load), {}).tolist() == [[128.0]]


def test_real_batches_are_the_same_again_and_differ_in_what_is_not_declared():
    assert real_batches(SAMPLES, 0) == real_batches(SAMPLES, 0)
    squares = {float((members**2).sum()) / float(members.sum()) for members in MEMBERS}
    assert len(squares) > 5
