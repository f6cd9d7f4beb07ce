import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.checksum import CHECKSUM, json_with_checksum, json_without_checksum, with_checksum, without_checksum

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=4).filter(lambda key: key != CHECKSUM), values, max_size=4)


@given(objects)
def test_what_is_written_is_read_whatever_its_layout(data):
    written = with_checksum(data)
    assert without_checksum(written) == (data, True)
    again = json.loads(json.dumps(written, indent=3, sort_keys=True))
    assert without_checksum(again) == (data, True)
    assert json.loads(json_without_checksum(json_with_checksum(data))) == data


@given(objects, objects)
def test_other_values_are_noticed(one, other):
    changed = {**other, CHECKSUM: with_checksum(one)[CHECKSUM]}
    assert without_checksum(changed)[1] == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


def test_a_file_without_a_checksum_counts_as_whole():
    assert without_checksum({"a": 1}) == ({"a": 1}, True)


@pytest.mark.parametrize(
    ("text", "why"),
    [("[1]", "no JSON object"), ("{", "Expecting property name"), ("[" * 100_000, "nested too deeply"),
     ('{"a": 2, "checksum": "0123456789abcdef"}', "its checksum is not that of its content")],
)  # fmt: skip
def test_what_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        json_without_checksum(text)
