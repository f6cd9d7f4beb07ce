"""Ways to damage an input: bytes, lines, words and numbers of a text; values of a JSON object."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

from benchmarks.fuzz.judging import Change
from compass.checksum import CHECKSUM, with_checksum

ODD_NUMBERS = (
    b"1_000", "１２".encode(), b"nan", b"-inf", b"1e999", b"1e-999", b"0x1A", b"1.0D1", b"1,5", b"10000.001", b"-99999.9", b"9" * 400,
    b"9" * 5000, b"1" * 18, b"-0", b"+1", b"1e5", b"00012", b"1.", b".5", b".", b"-", b"1 2", "١٢".encode(), "²".encode(), b"1.2.3",
    b"2147483648", b"9223372036854775808", b"-1", b"0", b"1e", b"1.0(3)", b"Infinity", b"1__0", b"0o17", b"1:30", b"010", b"1/2",
)  # fmt: skip
ODD_WORDS = (
    b"\0", b"\xff", b"\xc3", b"\xe2\x80\xa8", b"\xc2\x85", b"\x1c", b"\x0b", b"\x0c", b"\x1b[31m", "é".encode(), "é".encode("latin-1"),
    "\u202e".encode(), b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", "😀".encode(), "Ａ".encode(), b"\r", b"\r\n", b"\t", b'"', b"'", b"#",
    b";", b"\\", b"@", b"$$$$", b"%s", b"{", b"}", b"[", b"]", b"&a", b"*a", b"null", b"None", b"true", b"", b" ", b"  ", b"?", b"../..", b"/",
)  # fmt: skip
_DIGITS = frozenset(b"0123456789.")


def any_of(*changes: Change) -> Change:
    """One to four of `changes`, one after the other."""

    def change(data: bytes, chance: Random) -> bytes:
        for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
            data = chance.choice(changes)(data, chance)
        return data

    return change


# ----------------------------------------------------------------------------------------------------------------- bytes


def flip(data: bytes, chance: Random) -> bytes:
    """One bit turned."""
    if not data:
        return b"\0"
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def overwrite(data: bytes, chance: Random) -> bytes:
    """One byte is another."""
    place = chance.randrange(len(data) + 1)
    return data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]


def insert(data: bytes, chance: Random) -> bytes:
    """An odd word between two bytes."""
    place = chance.randrange(len(data) + 1)
    return data[:place] + chance.choice(ODD_WORDS) + data[place:]


def cut(data: bytes, chance: Random) -> bytes:
    """The end is missing."""
    return data[: chance.randrange(len(data) + 1)]


def lose(data: bytes, chance: Random) -> bytes:
    """Some bytes are missing."""
    place = chance.randrange(len(data) + 1)
    return data[:place] + data[place + chance.choice((1, 1, 2, 5, 20, 100)) :]


def repeat(data: bytes, chance: Random) -> bytes:
    """A part stands there several times."""
    place, size = chance.randrange(len(data) + 1), chance.choice((1, 3, 10, 80, 400))
    return data[:place] + data[place : place + size] * chance.choice((1, 2, 5, 30)) + data[place + size :]


RAW: tuple[Change, ...] = (flip, overwrite, insert, cut, lose, repeat)

# ------------------------------------------------------------------------------------------------------------------ text


def number(data: bytes, chance: Random) -> bytes:
    """A number is another, or none."""
    start, end = _number_at(data, chance)
    odd = chance.choice(ODD_NUMBERS)
    if chance.random() < 0.5 and len(odd) < 12:  # in columns, the rest of the line stays where it was
        odd = odd.rjust(end - start)
    return data[:start] + odd + data[end:]


def digit(data: bytes, chance: Random) -> bytes:
    """A digit is another character."""
    start, end = _number_at(data, chance)
    if start == end:
        return data
    place = chance.randrange(start, end)
    return data[:place] + bytes([chance.choice(b"0123456789.,-+eED_ x")]) + data[place + 1 :]


def _number_at(data: bytes, chance: Random) -> tuple[int, int]:
    """Where a number begins and ends, near a random place."""
    place = chance.randrange(len(data) + 1)
    start = next((i for i in range(place, min(len(data), place + 200)) if data[i] in _DIGITS), place)
    end = start
    while end < len(data) and data[end] in _DIGITS:
        end += 1
    return start, end


def word(data: bytes, chance: Random) -> bytes:
    """A word of one line takes the place of a word of another."""
    lines = data.split(b"\n")
    words = chance.choice(lines).split() or [b""]
    place = chance.randrange(len(lines))
    own = lines[place].split()
    if not own:
        return data
    lines[place] = lines[place].replace(chance.choice(own), chance.choice((chance.choice(words), *ODD_WORDS[:12])), 1)
    return b"\n".join(lines)


def line(data: bytes, chance: Random) -> bytes:
    """A line is missing, is there twice, in another place, in small letters, shifted, joined to the next, or commented out."""
    lines = data.split(b"\n")
    place, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    what = chance.randrange(8)
    if what == 0:
        del lines[place]
    elif what == 1:
        lines.insert(other, lines[place])
    elif what == 2:
        lines[place], lines[other] = lines[other], lines[place]
    elif what == 3:
        lines[place] = lines[place].swapcase()
    elif what == 4:
        lines[place] = b" " * chance.randint(1, 3) + lines[place]
    elif what == 5 and place + 1 < len(lines):
        lines[place : place + 2] = [lines[place] + lines[place + 1]]
    elif what == 6:
        lines[place] = b"#" + lines[place]
    else:
        lines[place] = lines[place][: chance.randrange(len(lines[place]) + 1)]
    return b"\n".join(lines)


def column(data: bytes, chance: Random) -> bytes:
    """One byte more or less in every line from here on: columns count bytes."""
    lines = data.split(b"\n")
    place, at = chance.randrange(len(lines)), chance.choice((0, 6, 12, 16, 26, 30, 31, 38, 54, 76))
    extra = chance.choice((b" ", "é".encode(), b"\xe9", b"\t", b""))
    for i in range(place, min(len(lines), place + chance.choice((1, 1, 3, 1000)))):
        lines[i] = lines[i][:at] + extra + lines[i][at + (0 if extra else 1) :]
    return b"\n".join(lines)


def line_ends(data: bytes, chance: Random) -> bytes:
    """Other line ends."""
    return data.replace(b"\n", chance.choice((b"\r\n", b"\r", b"\n\n", b"\x0b", b"\xe2\x80\xa8", b"")))


def encoding(data: bytes, chance: Random) -> bytes:
    """Another encoding, with a byte order mark or without."""
    text = data.decode("utf-8", "replace")
    return text.encode(chance.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "utf-7")), "replace")


def with_strings(*strings: bytes) -> Change:
    """A change that puts one of these strings of the format somewhere."""

    def put_string(data: bytes, chance: Random) -> bytes:
        place = chance.choice(
            (data.rfind(b"\n", 0, chance.randrange(len(data) + 1)) + 1, chance.randrange(len(data) + 1))
        )
        return data[:place] + chance.choice(strings) + data[place:]

    return put_string


TEXT: tuple[Change, ...] = (number, number, digit, digit, word, line, line, column, insert)


def text_change(*strings: bytes) -> Change:
    """Changes of a text, mostly of its words and lines; `strings` belong to the format."""
    own = (with_strings(*strings),) * 2 if strings else ()
    return any_of(*TEXT, *TEXT, *own, *RAW, line_ends, encoding)


def zipped(change: Change) -> Change:
    """Changes of a gzipped text: before packing, or of the packed bytes."""

    def changed(data: bytes, chance: Random) -> bytes:
        if chance.random() < 0.5:
            return gzip.compress(change(data, chance), 1)
        return any_of(*RAW)(gzip.compress(data, 1), chance)

    return changed


# ------------------------------------------------------------------------------------------------------------------ JSON

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1e308, -1e-320, float("nan"), float("inf"), 10**18, 10**30, -(10**400), 1.5, "", "x", "1_000", "１２", "nan",
    "1e5", "\0", "\ud800", "\u202e", [], {}, [[]], {"": {}}, [None], {"x": None}, [1, "a", None], "a" * 3000, [0] * 300, "1", "-5", "true",
)  # fmt: skip


def tree_change(data: bytes, chance: Random) -> bytes:
    """A JSON object with some values replaced, left out, doubled or nested, with and without a true checksum."""
    tree = json.loads(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        _change_tree(tree, chance)
    if isinstance(tree, dict) and CHECKSUM in tree and chance.random() < 0.8:
        tree = _sealed_again(tree)
    text = json.dumps(tree, indent=chance.choice((None, 1)))
    return text.encode("utf-8", "surrogatepass")


def _sealed_again(tree: dict[str, Any]) -> dict[str, Any]:
    try:
        return with_checksum(tree)
    except ValueError:
        return tree


def _change_tree(tree: Any, chance: Random) -> None:
    """Change one place in `tree`."""
    parent, node = tree, tree
    while isinstance(node, (dict, list)) and node and (parent is tree or chance.random() < 0.85):
        parent = node
        key: Any = chance.choice(list(node)) if isinstance(node, dict) else chance.randrange(len(node))
        node = node[key]
        if chance.random() < 0.04:
            break
    if not isinstance(parent, (dict, list)) or not parent:
        return
    what, node = chance.random(), copy.deepcopy(node)
    if what < 0.6:
        parent[key] = copy.deepcopy(chance.choice(ODD_VALUES))
    elif what < 0.7:
        del parent[key]
    elif what < 0.8:
        parent[key] = [node]
    elif what < 0.85:
        parent[key] = {"x": node}
    elif isinstance(parent, dict):
        parent[chance.choice(("x", "", "checksum", *list(parent)[:3]))] = copy.deepcopy(
            chance.choice((node, *ODD_VALUES))
        )
    else:
        parent.extend([node] * chance.choice((1, 3, 40)))


def doubled_key(data: bytes, chance: Random) -> bytes:
    """A key that stands there twice."""
    places = [i for i in range(len(data)) if data[i : i + 1] == b"{"][:200]
    if not places:
        return data
    place = chance.choice(places) + 1
    key = data[place : data.find(b":", place)].strip()[:80] or b'"x"'
    return data[:place] + key + b": 1, " + data[place:]


def json_change(data: bytes, chance: Random) -> bytes:
    """Changes of a JSON object, mostly of its values."""
    if chance.random() < 0.75:
        with suppress(ValueError):  # the ends of two objects make none
            return tree_change(data, chance)
    return any_of(*RAW, number, digit, doubled_key, encoding)(data, chance)


# ------------------------------------------------------------------------------------------------------------------ bombs


def deep(opening: bytes, closing: bytes = b"", n: int = 100_000) -> Callable[[], bytes]:
    """Nested `n` times."""
    return lambda: opening * n + closing * n


def wide(head: bytes, part: bytes, tail: bytes = b"", n: int = 1_000_000) -> Callable[[], bytes]:
    """`n` parts side by side."""
    return lambda: head + part * n + tail


def whole(data: bytes) -> Callable[[], bytes]:
    """`data` as it is."""
    return lambda: data


def gzip_bomb(n_bytes: int, byte: bytes = b" ") -> Callable[[], bytes]:
    """A gzipped file that unpacks to `n_bytes`."""

    def bomb() -> bytes:
        part = gzip.compress(byte * (1 << 24), 9)
        return part * (n_bytes >> 24)

    return bomb


def noise(n: int, chance: random.Random) -> bytes:
    """Random bytes."""
    return chance.randbytes(n)


def spliced(change: Change, seeds: Sequence[bytes]) -> Change:
    """Now and then the end of another input."""

    def changed(data: bytes, chance: Random) -> bytes:
        if chance.random() < 0.05:
            other = chance.choice(seeds)
            data = data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]
        return change(data, chance)

    return changed
