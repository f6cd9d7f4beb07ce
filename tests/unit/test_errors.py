import pytest

from compass.errors import InputError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1abc", "1abc"),
        ("Ångström 日本", "Ångström 日本"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("na\udce9", "na\\udce9"),
        ("a\u202eb", "a\\u202eb"),
        ("a\xa0b\u3000c", "a\xa0b\u3000c"),
    ],
)
def test_what_a_terminal_would_act_on_is_written_as_an_escape(text, shown):
    assert printable(text) == shown
    shown.encode()


def test_an_error_never_carries_it():
    error = InputError("file \x1b[2J", got="\x07", expected="text", fix="Rename it.")
    assert str(error) == "file \\x1b[2J: got \\x07; expected text. Rename it."
