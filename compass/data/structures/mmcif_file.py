"""mmCIF text as an `AtomTable`, through gemmi's CIF reader."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import gemmi
import numpy as np

from compass.data.structures.atom_table import NO_ELEMENT, AtomTable
from compass.data.structures.elements import ATOMIC_NUMBERS
from compass.data.structures.structure_file import Reason, StructureError, unreadable
from compass.units import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\(\d+\))?")
"""With the standard uncertainty in brackets that CIF allows."""
_MOST_BLOCKS = 100_000
"""Names of blocks are compared with each other: the time grows with the square."""
_PLAIN = frozenset("+-.0123456789")


def parse_mmcif(path: Path, text: str) -> AtomTable:
    """The atoms of the first block that has some; empty if none has.

    Raises:
        StructureError: truncated or unreadable.
    """
    if text.lower().count("data_") > _MOST_BLOCKS:
        raise unreadable(path, why=f"more than {_MOST_BLOCKS:,} data blocks", expected="the block of one entry")
    try:
        document = gemmi.cif.read_string(text)
    except (RuntimeError, ValueError) as error:
        # A file cut inside its atom table shows itself by a row with too few values.
        if "Wrong number of values in loop" not in str(error):
            raise unreadable(path, why=error, expected="mmCIF categories") from None
        raise StructureError(
            Reason.TRUNCATED,
            path,
            got="a table that ends within a row",
            expected="a complete file",
            fix="Fetch the file again.",
        ) from None
    blocks = [block for block in document if block.find_values("_atom_site.id")]
    columns = _Columns(path, blocks[0] if blocks else gemmi.cif.Block("none"))
    names = columns.text("auth_atom_id", "label_atom_id")
    _, segments = np.unique(columns.text("label_asym_id"), return_inverse=True)
    _, models = np.unique(columns.text("pdbx_PDB_model_num"), return_inverse=True)
    inserted = columns.text("pdbx_PDB_ins_code")
    symbols, where = np.unique(np.strings.upper(columns.text("type_symbol")), return_inverse=True)
    known = np.array([_element(str(symbol)) for symbol in symbols], np.int64)
    return AtomTable(
        names=names,
        alternates=columns.text("label_alt_id"),
        residue_names=columns.text("auth_comp_id", "label_comp_id"),
        chains=columns.text("auth_asym_id", "label_asym_id"),
        numbers=np.strings.add(columns.text("auth_seq_id", "label_seq_id"), inserted),
        hetero=columns.text("group_PDB") == "HETATM",
        segments=segments.astype(np.int64),
        models=_in_order(columns.text("pdbx_PDB_model_num"), models),
        elements=known[where] if len(known) else np.empty(0, np.int64),
        two_letter=np.zeros(len(names), np.bool_),
        occupancies=columns.numbers("occupancy", default=1.0),
        positions=np.stack([columns.numbers(f"Cartn_{axis}") for axis in "xyz"], axis=1),
        notes=_on_blocks(blocks),
    )


def _on_blocks(blocks: Sequence[gemmi.cif.Block]) -> tuple[str, ...]:
    """A note on atoms in further blocks, which are other entries."""
    n_left = sum(len(block.find_values("_atom_site.id")) for block in blocks[1:])
    if not n_left:
        return ()
    return (f"{format_count(n_left)} atoms of further data blocks are left out; the first, {blocks[0].name}, is read",)


def _element(symbol: str) -> int:
    return NO_ELEMENT if not symbol else ATOMIC_NUMBERS.get(symbol, 0)


def _in_order(texts: NDArray[Any], sorted_numbers: NDArray[Any]) -> NDArray[np.int64]:
    """(n,) models numbered in the order in which they come."""
    first = {text: number for number, text in enumerate(dict.fromkeys(texts.tolist()))}
    return (
        np.array([first[text] for text in texts.tolist()], np.int64) if len(sorted_numbers) else np.empty(0, np.int64)
    )


class _Columns:
    """The columns of `_atom_site` in one block."""

    def __init__(self, path: Path, block: gemmi.cif.Block) -> None:
        self._path, self._block = path, block
        self._n = len(block.find_values("_atom_site.id"))

    def _values(self, name: str) -> list[str] | None:
        values = list(self._block.find_values(f"_atom_site.{name}"))
        if any(quote in "".join(values) for quote in "'\";"):
            values = [gemmi.cif.as_string(value) if value[0] in "'\";" else value for value in values]
        if values and len(values) != self._n:
            raise unreadable(self._path, why=f"{len(values)} values of {name} for {self._n} atoms", expected="one each")
        return values or None

    def text(self, *names: str) -> NDArray[Any]:
        """(n,) strings of the first of `names` that has values, row by row; empty where none has."""
        result = np.full(self._n, "", "U1")
        for name in names:
            values = self._values(name)
            if values is not None and (result == "").any():
                found = np.array(values)
                found[(found == "?") | (found == ".")] = ""
                result = np.where(result == "", found, result)
        return result

    def numbers(self, name: str, default: float | None = None) -> NDArray[np.float64]:
        """(n,) numbers; `default` where a value is missing.

        Raises:
            StructureError: unreadable, if a value is missing or no number and there is no default.
        """
        values = self._values(name)
        if values is None and default is None and self._n:
            raise unreadable(self._path, why=f"no _atom_site.{name}", expected="coordinates of every atom")
        values = values or [""] * self._n
        try:
            if _PLAIN.issuperset("".join(values)):
                return np.array(values, np.float64)
        except ValueError:
            pass
        return np.array([self._number(value, name, default) for value in values], np.float64)

    def _number(self, value: str, name: str, default: float | None) -> float:
        match = _NUMBER.fullmatch(value)
        if match:
            return float(match[1])
        if default is not None:
            return default
        raise unreadable(self._path, why=f"{value!r} as {name}", expected="three numbers for every atom")
