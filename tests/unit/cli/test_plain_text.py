"""Letters that an encoding lacks: every one that Compass writes has a plain equivalent."""

from pathlib import Path

import pytest

import compass
from compass.cli.plain_text import PLAIN, PLAIN_ASCII, plain, register

ROOT = Path(compass.__file__).parent
WRITTEN = {
    letter
    for path in ROOT.rglob("*")
    if path.suffix in {".py", ".txt", ".html", ".md", ".jinja"} and "assets" not in path.parts
    for letter in path.read_text(encoding="utf-8")
    if not letter.isascii()
}
OF_TABLES = set("─│╭╮╰╯├┤┌┐└┘━┃╸╺⠋⠙⠹█▏")
"""What rich draws."""


def test_every_letter_of_compass_has_an_equivalent():
    assert {"×", "Å", "–", "→"} <= WRITTEN
    found = {letter: plain(letter) for letter in WRITTEN | OF_TABLES}
    assert all(text.isascii() and text.isprintable() and text for text in found.values())
    assert {letter for letter, text in found.items() if "\\" in text or "?" in text} == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6 × 128, 8 Å, 3–5 → done …", "6 x 128, 8 A, 3-5 -> done ..."),
        ("±5 µm² ≤ ½", "+-5 um2 <= 1/2"),
        ("Müller Łódź Ørsted straße", "Muller Lodz Orsted strasse"),
        ("αβγλΣ", "alphabetagammalambdaSigma"),
        ("╭──┬─╮│", "+--+-+|"),
        ("蛋白", "\\u86cb\\u767d"),
        ("a\udcffb", "a\\udcffb"),
    ],
)
def test_equivalents(text, expected):
    register()
    assert text.encode(PLAIN_ASCII, PLAIN).decode("ascii") == expected


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "gbk", "koi8-r", "utf-8"])
def test_no_encoding_fails_or_asks(encoding):
    register()
    assert b"?" not in "".join(sorted(WRITTEN - {"?"})).encode(encoding, PLAIN)


def test_letters_that_the_encoding_has_are_kept():
    register()
    assert "3 × 8 Å → –".encode("latin-1", PLAIN).decode("latin-1") == "3 × 8 Å -> -"
    assert "3 × 8 Å → –".encode("gbk", PLAIN).decode("gbk") == "3 × 8 A → –"


def test_only_encoding_is_degraded():
    register()
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("utf-8", PLAIN)
