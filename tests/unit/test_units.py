import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.errors import InputError
from compass.units import GIB, MIB, format_bytes, format_count, format_duration, format_seconds, parse_bytes


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("1073741824", GIB),
        ("6GiB", 6 * GIB),
        ("6 gib", 6 * GIB),
        ("6G", 6 * GIB),
        ("512 MB", 512 * 1000**2),
        ("0.5GiB", GIB // 2),
        (" 3 k ", 3072),
        ("1TiB", 1024**4),
        ("7b", 7),
    ],
)
def test_sizes_as_people_write_them(text, n_bytes):
    assert parse_bytes(text, where="--memory-limit") == n_bytes


@pytest.mark.parametrize("text", ["", "GiB", "six", "6 apples", "1e9", "6GiBs", "1,5GiB", "nan", "0x10"])
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(InputError) as error:
        parse_bytes(text, where="--memory-limit")
    assert str(error.value) == (
        f"--memory-limit: got {text!r}; expected a size such as 6GiB, 512MB or 1073741824. Write a number and a unit."
    )
    assert error.value.exit_code == 2


@pytest.mark.parametrize("text", ["0", "-1", "-4GiB", "0.1b"])
def test_a_size_is_above_zero(text):
    with pytest.raises(InputError) as error:
        parse_bytes(text, where="--memory-limit")
    assert str(error.value) == (
        f"--memory-limit: got {text!r}; expected a size above zero. Give the memory that may be used."
    )


@given(st.integers(min_value=2**20, max_value=2**53))  # 8 PiB: beyond it a float rounds
def test_a_number_of_bytes_is_itself(n_bytes):
    assert parse_bytes(str(n_bytes), where="x") == n_bytes


def test_a_few_bytes_are_a_forgotten_unit():
    with pytest.raises(InputError) as caught:
        parse_bytes("6", where="--memory-limit")
    assert str(caught.value) == (
        "--memory-limit: got '6', which would be bytes; expected a size such as 6GiB, 512MB or 1073741824. Write a unit: 6GiB?"
    )
    assert parse_bytes("6b", where="x") == 6


@given(st.integers(min_value=1, max_value=2**50))
def test_a_formatted_size_reads_back_to_within_its_last_digit(n_bytes):
    assert parse_bytes(format_bytes(n_bytes), where="x") == pytest.approx(n_bytes, rel=0.006)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1.5 * MIB, "1.50 MiB"), (3.42 * GIB, "3.42 GiB"),
     (2 * 1024**4, "2.00 TiB"), (-2 * MIB, "-2.00 MiB")],
)  # fmt: skip
def test_bytes_as_people_read_them(n_bytes, text):
    assert format_bytes(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.84, "840 ms"), (0.0004, "0 ms"), (1, "1.0 s"), (12.34, "12.3 s"), (119, "119.0 s"), (120, "2.0 min"),
     (1284, "21.4 min"), (7200, "2.0 h"), (11160, "3.1 h")],
)  # fmt: skip
def test_seconds_as_people_read_them(seconds, text):
    assert format_seconds(seconds) == text


def test_counts_have_thousands_separators():
    assert format_count(1_502) == "1,502"


def test_a_whole_number_beyond_all_floats_is_infinite():
    assert (format_bytes(10**400), format_seconds(10**400), format_count(10**400), format_duration(10**400)) == (
        "inf TiB", "inf h", "inf", "inf days",
    )  # fmt: skip
    assert format_bytes(-(10**400)) == "-inf TiB"
