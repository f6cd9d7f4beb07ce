"""What a dataset lists, before any structure file is opened."""

from __future__ import annotations

import codecs
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compass.data.scan.rows import Label, Row
from compass.data.structures.affinity import Relation, parse_affinity
from compass.data.structures.structure_file import StructureError
from compass.errors import InputError

PLAUSIBLE_PK = (-2.0, 20.0)
"""Beyond, a bare number is no pK: 49000 is a concentration, −4.2 an energy in kcal/mol."""
LEAST_PK = 0.01
"""Nearer to zero it is none either, but for zero itself: 4.9e-05 is a concentration in mol/L."""
SAME_PK = 0.005
"""Indices round to two decimals."""

POCKET_FOR_PROTEIN = "pocket_for_protein"
"""The repair of a complex without a protein file: PDBbind's pocket holds the residues within 10 Å of the ligand."""

_OF_PK: dict[str, Relation] = {"=": "=", "<": ">", ">": "<", "~": "~"}
"""A concentration's bound, turned over: the smaller the concentration, the larger the pK."""


@dataclass(frozen=True)
class Candidate:
    """One complex that a dataset lists."""

    row: Row
    """What is known of it so far. Rejected: there is nothing to read."""
    proteins: tuple[str, ...] = ()
    """Files to try, best first, relative to the listing's root."""
    ligands: tuple[str, ...] = ()
    """The same of the ligand."""


@dataclass(frozen=True)
class Listing:
    """All that a dataset lists."""

    root: Path
    candidates: tuple[Candidate, ...]
    """Sorted by id, each id once."""
    labels: str = ""
    """The file that the labels are from; empty if there is none."""
    warnings: tuple[str, ...] = ()
    """What a person should know of the whole, a line each."""


def read_label(text: str, *, where: str) -> Label:
    """The label in `text`: a bare pK, or an affinity such as `Kd=49uM`.

    Raises:
        InputError: neither of them.
    """
    try:
        pk = float(text)
    except ValueError:
        affinity = parse_affinity(text, where=where)
        return Label(pk=affinity.pk, relation=_OF_PK[affinity.relation], kind=affinity.kind)
    low, high = PLAUSIBLE_PK
    if not low <= pk <= high or 0 < abs(pk) < LEAST_PK:
        raise InputError(where, got=repr(text), expected=f"a pK from {low:g} to {high:g}",
                         fix="Give -log10 of the molar value, or the value with its unit, for example Kd=49uM.")  # fmt: skip
    return Label(pk=pk)


def decoded(raw: bytes) -> str:
    """`raw` as text: UTF-8, or what spreadsheets write."""
    if raw[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def same_label(one: Label, other: Label) -> bool:
    """Whether two labels say the same, whatever was measured."""
    return one.relation == other.relation and math.isclose(one.pk, other.pk, rel_tol=0.0, abs_tol=2 * SAME_PK)


def settled(labels: Sequence[Label | None], *, where: str) -> tuple[Label | None, str]:
    """The label of what `where` lists more than once, and a note on it.

    Labels that contradict each other leave none: a wrong label costs more than a missing one.
    """
    known = [label for label in labels if label is not None]
    if any(not same_label(known[0], label) for label in known):
        told = ", ".join(f"{label.relation}{label.pk:.2f}" for label in known)
        return None, f"{where}: listed {len(labels)} times, no label: they contradict each other (pK {told})"
    return (known[0] if known else None), f"{where}: listed {len(labels)} times, the first counts"


def rejected(row: Row, error: StructureError) -> Candidate:
    """A candidate whose files need not be looked at."""
    return Candidate(row.model_copy(update={"status": "rejected", "reason": str(error.reason), "detail": str(error)}))
