"""PDBbind's binding data, read to the letter."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.data.structures.affinity import Affinity, parse_affinity
from compass.errors import InputError


@pytest.mark.parametrize(
    ("text", "affinity", "pk"),
    [
        ("Kd=49uM", Affinity("Kd", "=", 49e-6), 4.3098),
        ("Ki=1.4nM", Affinity("Ki", "=", 1.4e-9), 8.8539),
        ("IC50<10mM", Affinity("IC50", "<", 10e-3), 2.0),
        ("Ki~5pM", Affinity("Ki", "~", 5e-12), 11.3010),
        ("Kd>100uM", Affinity("Kd", ">", 100e-6), 4.0),
        ("Kd>=100µM", Affinity("Kd", ">", 100e-6), 4.0),
        ("Ki<=0.2fM", Affinity("Ki", "<", 0.2e-15), 15.6990),
        (" Kd = 2M ", Affinity("Kd", "=", 2.0), -0.3010),
    ],
)
def test_entries(text, affinity, pk):
    parsed = parse_affinity(text, where="index")
    assert (parsed.kind, parsed.relation) == (affinity.kind, affinity.relation)
    assert parsed.molar == pytest.approx(affinity.molar, rel=1e-12)
    assert parsed.pk == pytest.approx(pk, abs=1e-4)


@pytest.mark.parametrize(
    "text", ["", "Kd", "49uM", "Kd=uM", "Kd=49", "Kd=49 ug", "EC50=3nM", "Kd=-3nM", "Kd=0nM", "Kd=1e999M", "Kd=49UM"]
)
def test_errors_to_the_letter(text):
    with pytest.raises(InputError) as caught:
        parse_affinity(text, where="test_bench.binding_data")
    assert str(caught.value) == (
        f"test_bench.binding_data: got {text!r}; expected Kd, Ki or IC50, one of = < > ~, a number above zero and a "
        "unit from fM to M. Write it as the PDBbind index does, for example Kd=49uM."
    )


@given(
    st.sampled_from(["Kd", "Ki", "IC50"]),
    st.sampled_from("=<>~"),
    st.decimals(min_value="0.01", max_value="999", places=2),
    st.sampled_from([("fM", 15), ("pM", 12), ("nM", 9), ("uM", 6), ("mM", 3), ("M", 0)]),
)
def test_whatever_is_written_is_read(kind, relation, number, unit):
    parsed = parse_affinity(f"{kind}{relation}{number}{unit[0]}", where="index")
    assert (parsed.kind, parsed.relation) == (kind, relation)
    assert parsed.pk == pytest.approx(unit[1] - math.log10(float(number)), abs=1e-9)
