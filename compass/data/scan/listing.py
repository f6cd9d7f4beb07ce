"""The complexes that a dataset lists, before any structure file is opened."""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

from compass.data.scan.rows import Label, Row
from compass.data.structures.affinity import Relation, parse_affinity
from compass.data.structures.structure_file import StructureError
from compass.errors import InputError

PLAUSIBLE_PK = (-2.0, 20.0)
"""A bare number outside is no pK: 49000 is a concentration, −4.2 an energy in kcal/mol."""
LEAST_PK = 0.01
"""A bare number nearer to zero is no pK either, except zero itself: 4.9e-05 is a concentration in mol/L."""
SAME_PK = 0.005
"""Index files round to two decimals."""

POCKET_FOR_PROTEIN = "pocket_for_protein"
"""The repair of a complex without a protein file: PDBbind's pocket holds the residues within 10 Å of the ligand."""

PLAIN_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
"""A number as tables write it. Python reads more: `1_000`, `nan`, digits of other scripts."""
_OF_PK: dict[str, Relation] = {"=": "=", "<": ">", ">": "<", "~": "~"}
"""Relation of a concentration → relation of its pK, which grows as the concentration falls."""
_SIGNS: dict[str, Relation] = {
    "=": "=",
    "<": "<",
    ">": ">",
    "~": "~",
    "<=": "<",
    ">=": ">",
    "≤": "<",
    "≥": ">",
    "≈": "~",
}
"""What a table writes → relation."""


@dataclass(frozen=True)
class Listed:
    """One complex that a dataset lists."""

    row: Row
    """Its row so far. If it is already rejected, no file is read."""
    proteins: tuple[str, ...] = ()
    """Protein files to try, best first, relative to the listing's root."""
    ligands: tuple[str, ...] = ()
    """Ligand files to try, best first."""


@dataclass(frozen=True)
class Listing:
    """All complexes of a dataset."""

    root: Path
    complexes: tuple[Listed, ...]
    """Sorted by id, each id once."""
    labels: str = ""
    """Source file of the labels; empty if there is none."""
    warnings: tuple[str, ...] = ()
    """Warnings about the whole dataset, one line each."""


def read_label(text: str, *, where: str, bare_pk: bool = True) -> Label:
    """The label in `text`: an affinity such as `Kd=49uM` or, if `bare_pk`, a number that is a pK.

    Raises:
        InputError: it is neither of them.
    """
    pk = _number(text) if bare_pk else None
    if pk is None:
        affinity = parse_affinity(text, where=where)
        return Label(pk=affinity.pk, relation=_OF_PK[affinity.relation], kind=affinity.kind)
    low, high = PLAUSIBLE_PK
    if not low <= pk <= high or 0 < abs(pk) < LEAST_PK:
        raise InputError(
            where,
            got=repr(text),
            expected=f"a pK from {low:g} to {high:g}",
            fix="Give -log10 of the molar value, or the value with its unit, for example Kd=49uM.",
        )
    return Label(pk=pk)


def _number(text: str) -> float | None:
    """The number in `text`; NaN for what Python alone takes for one; None for anything else."""
    try:
        return float(text) if PLAIN_NUMBER.fullmatch(text) else float(text) * math.nan
    except ValueError:
        return None


def related_label(label: Label, sign: str, *, where: str) -> Label:
    """`label` with the relation of its pK that a table gives in a column of its own.

    Raises:
        InputError: the sign is none, or the label says otherwise.
    """
    relation = _SIGNS.get(sign)
    if relation is None or (label.kind is not None and label.relation != relation):
        raise InputError(
            where,
            got=f"the relation {sign!r} of the pK {label.relation}{label.pk:.2f}",
            expected="one of = < > ~, as in the binding data",
            fix="Write the bound of the pK: Kd<10mM is a pK above 2.",
        )
    return label.model_copy(update={"relation": relation})


def decoded(raw: bytes) -> str:
    """`raw` as text: UTF-8, UTF-16 with a byte order mark, or Windows-1252, as spreadsheets write it."""
    if raw[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", errors="replace")


def same_label(one: Label, other: Label) -> bool:
    """Whether two labels have the same relation and, up to rounding, the same pK; the kind does not count."""
    return one.relation == other.relation and math.isclose(one.pk, other.pk, rel_tol=0.0, abs_tol=2 * SAME_PK)


def agreed_label(labels: Sequence[Label | None], *, where: str) -> tuple[Label | None, str]:
    """One label for a complex that `where` lists several times, and a note on it.

    Contradicting labels give none: a wrong label costs more than a missing one.
    """
    known = [label for label in labels if label is not None]
    if any(not same_label(known[0], label) for label in known):
        values = ", ".join(f"{label.relation}{label.pk:.2f}" for label in known)
        return None, f"{where}: listed {len(labels)} times, no label: they contradict each other (pK {values})"
    return (known[0] if known else None), f"{where}: listed {len(labels)} times, the first counts"


def each_id_once(found: Iterable[Listed]) -> tuple[Listed, ...]:
    """All of `found` sorted by id, each with an id of its own: a rejected one gets a number if its id is taken."""
    taken: dict[str, Listed] = {}
    for listed in sorted(found, key=lambda listed: not listed.row.usable):
        given = listed.row.id
        id_ = next(name for name in chain((given,), (f"{given} #{n}" for n in count(2))) if name not in taken)
        taken[id_] = listed if id_ == given else replace(listed, row=listed.row.model_copy(update={"id": id_}))
    return tuple(taken[id_] for id_ in sorted(taken))


def rejected(row: Row, error: StructureError) -> Listed:
    """A rejected complex, whose files are not read."""
    return Listed(row.model_copy(update={"status": "rejected", "reason": str(error.reason), "detail": str(error)}))
