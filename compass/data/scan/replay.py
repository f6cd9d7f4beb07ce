"""Reading one complex in this process, step by step, to see why a scan rejects it."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Generator
from pathlib import Path

from compass.data.scan.listing import Listed, Listing
from compass.data.scan.reading import Reader, ReadingRules, ReadResult
from compass.data.scan.rows import Row
from compass.data.structures.structure_file import StructureError
from compass.errors import InputError
from compass.optimizer_config import StructureRules
from compass.units import format_bytes, format_count

EVERYTHING = StructureRules(
    hydrogens="keep", waters="keep", metals="keep", cofactors="keep", alternates="all", models="all"
)
"""Rules that keep every atom of a file."""

Steps = Generator[tuple[str, str]]
"""Yields (step, finding) at once, so that the step that ends the process is known."""


def replay_complex(candidate: Listed, root: Path, rules: ReadingRules) -> Generator[tuple[str, str], None, Row]:
    """Read `candidate` without any cache, yielding each step. Returns its row."""
    row = candidate.row
    yield "id", row.id
    label = row.label
    yield "label", "none" if label is None else f"pK {label.relation} {label.pk:.2f} {label.kind or ''}".rstrip()
    for name in candidate.ligands:
        yield from _file("ligand file", root / name, name, rules)
    for name in candidate.proteins:
        yield from _file("protein file", root / name, name, rules)
    if row.usable:
        reading = Reader(root, rules)(candidate)
        row = (reading.outcome or ReadResult(status="rejected")).completes(row, reading.key)
    if row.usable:
        yield "used", f"{row.protein}, {row.ligand}"
        yield from _cut(root / row.protein, root / row.ligand, rules)
        yield "graph", ", ".join(f"{format_count(size)} {feature}" for feature, size in row.sizes)
    yield from (("repair", repair) for repair in row.repairs)
    yield from (("note", note) for note in row.notes)
    yield "outcome", row.status if row.usable else f"rejected, {row.reason}: {row.detail}"
    return row


def listed_complex(listing: Listing, id_: str) -> Listed:
    """The complex with the id `id_`, in upper or lower case.

    Raises:
        InputError: no complex has that id.
    """
    by_id = {candidate.row.id: candidate for candidate in listing.complexes}
    in_lower_case = {name.lower(): name for name in by_id}
    found = by_id.get(id_) or by_id.get(in_lower_case.get(id_.lower(), ""))
    if found is None:
        close = difflib.get_close_matches(id_.lower(), in_lower_case, n=1)
        raise InputError(
            "--only",
            got=repr(id_),
            expected=f"one of the {format_count(len(by_id))} ids of {listing.root}",
            fix=f"Did you mean {in_lower_case[close[0]]}?" if close else "Check the id.",
        )
    return found


def _file(what: str, path: Path, name: str, rules: ReadingRules) -> Steps:
    """The atoms of one file and the atoms that the rules keep, or why it cannot be read."""
    try:
        size = format_bytes(path.stat().st_size)
    except OSError as error:
        size = "not there" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
    yield what, f"{name}, {size}"
    try:
        from compass.data.structures.ligand import read_ligand
        from compass.data.structures.protein import read_protein

        if what == "ligand file":
            atoms = read_ligand(path)
            yield "  atoms", f"{format_count(len(atoms))}, {format_count((atoms.elements > 1).sum())} of them heavy"
        else:
            n_whole = len(read_protein(path, EVERYTHING))
            n_kept = len(read_protein(path, rules.structures))
            yield "  atoms", f"{format_count(n_whole)}, {format_count(n_kept)} of them kept by the structure rules"
    except StructureError as error:
        yield f"  {error.reason}", str(error)
    except Exception:  # noqa: BLE001 - a replay shows every error
        yield "  crashed", traceback.format_exc()


def _cut(protein: Path, ligand: Path, rules: ReadingRules) -> Steps:
    """The numbers of atoms after cleaning and after cutting out the pocket."""
    from compass.data.structures.reading import read_complex

    for step, radius in (("cleaned", None), ("pocket", rules.pocket_radius)):
        if step == "pocket" and radius is None:
            continue
        try:
            complex_ = read_complex(
                protein.name, protein, ligand, pocket_radius=radius, max_atoms=10**9, rules=rules.structures
            )
        except StructureError as error:  # an atom far from the ligand may be at fault, and the pocket leaves it out
            yield step, str(error)
            continue
        n_ligand = int(complex_.is_ligand.sum())
        n_protein = format_count(complex_.n_atoms - n_ligand)
        within = "" if radius is None else f" within {radius:g} Å"
        yield step, f"{n_protein} protein atoms{within}, {format_count(n_ligand)} ligand atoms"
