"""Letters that an encoding lacks, as the plain ones that stand for them: × as x, Å as A, – as -; never as a question mark."""

from __future__ import annotations

import codecs
import encodings.ascii
import re
import unicodedata

PLAIN = "plain"
"""The name of the error handler."""
PLAIN_ASCII = "plain-ascii"
"""The name of an encoding that is ASCII. Libraries that mistrust ASCII by its name, and write UTF-8 instead, take this one."""

_EQUIVALENTS = {
    **dict.fromkeys("‐‑‒–—―−⁻", "-"),
    **dict.fromkeys("‘’‚", "'"),
    **dict.fromkeys("“”„", '"'),
    **dict(
        pair.split()
        for pair in [
            "× x",
            "· .",
            "• *",
            "→ ->",
            "← <-",
            "≤ <=",
            "≥ >=",
            "≠ !=",
            "≈ ~",
            "± +-",
            "√ sqrt",
            "∘ o",
            "∞ inf",
            "° deg",
        ]
    ),
    **dict(
        pair.split()
        for pair in ["µ u", "μ u", "½ 1/2", "¼ 1/4", "ß ss", "æ ae", "Æ AE", "✓ ok", "✗ x", "❯ >", "€ EUR", "£ GBP"]
    ),
}
_STROKED = re.compile(r"LATIN (?P<case>SMALL|CAPITAL) LETTER (?P<letter>[A-Z])(?: WITH .*)?")
_GREEK = re.compile(r"GREEK (?P<case>SMALL|CAPITAL) LETTER (?:FINAL )?(?P<letter>[A-Z]+)")
_BOX = range(0x2500, 0x2580)
_ACROSS, _UPRIGHT = {"HORIZONTAL", "LEFT", "RIGHT"}, {"VERTICAL", "UP", "DOWN"}
_BLOCKS = range(0x2580, 0x25A0)
_BRAILLE = range(0x2800, 0x2900)


def plain(letter: str) -> str:
    """ASCII that stands for `letter`; an escape, as in Python, where nothing does."""
    if letter.isascii():
        return letter
    found = _EQUIVALENTS.get(letter) or _line(letter) or _base(letter)
    return found or letter.encode("ascii", "backslashreplace").decode("ascii")


def _line(letter: str) -> str:
    """A part of a table's frame, of a progress bar or of a spinner; empty for other letters."""
    code, name = ord(letter), unicodedata.name(letter, "")
    if code in _BOX:
        words = set(name.split())
        is_across, is_upright = bool(words & _ACROSS), bool(words & _UPRIGHT)
        return "-" if is_across and not is_upright else "|" if is_upright and not is_across else "+"
    return "#" if code in _BLOCKS else "*" if code in _BRAILLE else ""


def _base(letter: str) -> str:
    """The letter without its accents, in its usual height, or the name of a Greek one; empty for other letters."""
    parts = "".join(part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part))
    if parts.isascii():
        return parts
    name = unicodedata.name(letter, "")
    found = _STROKED.fullmatch(name) or _GREEK.fullmatch(name)
    if found is None:
        return ""
    word = found["letter"].replace("MDA", "MBDA")  # Unicode's spelling
    return word.lower() if found["case"] == "SMALL" else word.capitalize()


def register() -> None:
    """Make the handler and the encoding known to Python. May be called again."""
    codecs.register_error(PLAIN, _replace)
    codecs.register(_plain_ascii)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(plain, error.object[error.start : error.end])), error.end


def _plain_ascii(name: str) -> codecs.CodecInfo | None:
    if name.replace("_", "-") != PLAIN_ASCII:
        return None
    found = encodings.ascii.getregentry()
    return codecs.CodecInfo(
        found.encode,
        found.decode,
        incrementalencoder=found.incrementalencoder,
        incrementaldecoder=found.incrementaldecoder,
        name=PLAIN_ASCII,
    )
