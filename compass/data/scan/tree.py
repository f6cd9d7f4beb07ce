"""PDBbind-style folders: their complexes, the files of each complex, and the index files.

Complexes are recognised by file names such as `<code>_protein.pdb`. The depth of a folder does not matter, and several
complexes may share one.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compass.data.scan.index import IndexEntry, IndexFile, choose_index, index_warnings, read_index, require_entries
from compass.data.scan.listing import POCKET_FOR_PROTEIN, Listed, Listing, rejected
from compass.data.scan.rows import Row
from compass.data.structures.structure_file import Reason, StructureError
from compass.errors import InputError
from compass.units import format_count

DEEPEST = 3
"""Levels below the given folder: PDBbind's releases nest complexes by one or two."""
PROTEIN_EXTENSIONS = (".pdb", ".ent", ".cif", ".mmcif")
"""In the order in which they are tried."""
LIGAND_EXTENSIONS = (".sdf", ".sd", ".mol", ".mol2")
"""In the order in which they are tried: SDF before MOL2, because MOL2's atom types are ambiguous."""

_PART = re.compile(r"(?:(.+)_)?(protein|pocket|ligand)", re.IGNORECASE)
_PDB_CODE = re.compile(r"\d[a-z0-9]{3}|pdb_[a-z0-9]{8}", re.IGNORECASE)
_N_NAMED = 5
_CHECK = "Check its name and permissions."
_NO_INDEX = {".gz", ".tgz", ".tar", ".zip", ".pdf", ".html", ".htm"}


@dataclass
class FolderTree:
    """The content of a folder, after a walk through it."""

    complexes: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """(code, folder, its files); folder and files relative to the root."""
    indices: list[str] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    """Folders named like a PDB entry that hold no structure file."""
    passed_over: list[str] = field(default_factory=list)
    """Other folders without structure or index files."""
    closed: list[tuple[str, str]] = field(default_factory=list)
    """(folder, why it cannot be read)."""


def list_tree(root: Path, index: str = "") -> Listing:
    """The complexes below `root`, with their labels from the index file `index` or, if empty, from one found there.

    Raises:
        InputError: no complexes, or the file `index` is not an index.
    """
    tree = walk(root)
    if not tree.complexes and not tree.bare:
        raise InputError(str(root), got="no complexes", expected="folders such as 1abc with 1abc_protein.pdb and 1abc_ligand.sdf",
                         fix="Check the path, or list the files in a CSV manifest.")  # fmt: skip
    codes = {code.lower() for code, _, _ in tree.complexes}
    used, warnings = _index(root, index, tree, codes)
    if tree.passed_over:
        n_more = len(tree.passed_over) - _N_NAMED
        named = ", ".join(tree.passed_over[:_N_NAMED]) + (f" and {format_count(n_more)} more" if n_more > 0 else "")
        warnings = (*warnings, f"folders without structure files, passed over: {named}")
    entries = used.entries if used else {}
    return Listing(
        root=root,
        complexes=tuple(sorted(_candidates(root, tree, entries, used), key=lambda candidate: candidate.row.id)),
        labels=str(used.path) if used else "",
        warnings=warnings,
    )


def _index(root: Path, named: str, tree: FolderTree, codes: set[str]) -> tuple[IndexFile | None, tuple[str, ...]]:
    if not named:
        return choose_index([read_index(root / name) for name in tree.indices], codes)
    index = read_index(Path(named))
    require_entries(index)
    return index, index_warnings(index, codes)


def walk(root: Path) -> FolderTree:
    """Structure and index files below `root`, folder by folder in the order of names. Links are followed."""
    tree = FolderTree()
    empty: list[str] = []
    for folder, depth, names in _folders(root, "", 0, tree):
        indices = [name for name in names if name.upper().startswith("INDEX") and Path(name).suffix not in _NO_INDEX]
        complexes = _by_code(names, Path(folder).name if folder else root.resolve().name)
        tree.indices += [_in(folder, name) for name in indices]
        tree.complexes += [(code, folder, files) for code, files in complexes.items()]
        if not complexes and not indices and depth:
            empty.append(folder)
    # A folder that only holds other folders was passed through, not over.
    through = _parents([folder for _, folder, _ in tree.complexes] + tree.indices)
    tree.bare = [folder for folder in empty if folder not in through and _PDB_CODE.fullmatch(Path(folder).name)]
    through |= _parents(tree.bare).union(tree.bare)
    tree.passed_over = [folder for folder in empty if folder not in through]
    return tree


def _parents(paths: Sequence[str]) -> set[str]:
    return {str(parent) for path in paths for parent in Path(path).parents}


def _folders(root: Path, folder: str, depth: int, tree: FolderTree) -> Iterator[tuple[str, int, list[str]]]:
    """Yield (folder, depth, names of its files) without hidden files. Unreadable folders go to `tree.closed`."""
    try:
        with os.scandir(root / folder) as entries:
            named = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
            seen = [
                (entry.name, is_folder) for entry in named if (is_folder := _is_folder(entry, folder, tree)) is not None
            ]
    except OSError as error:
        why = error.strerror or str(error)
        if not depth:
            raise InputError(str(root), got=why, expected="a folder that can be read", fix=_CHECK) from error
        tree.closed.append((folder, why))
        return
    yield folder, depth, [name for name, is_folder in seen if not is_folder and name.isprintable()]
    if depth < DEEPEST:
        for name, is_folder in seen:
            if is_folder and name.isprintable():
                yield from _folders(root, _in(folder, name), depth + 1, tree)
            elif is_folder:
                tree.closed.append((_in(folder, ascii(name)), "a name that is not valid text"))


def _is_folder(entry: os.DirEntry[str], folder: str, tree: FolderTree) -> bool | None:
    """Whether `entry` is a folder; None, with a record in `tree.closed`, if a link leads nowhere."""
    try:
        return entry.is_dir()
    except OSError as error:
        tree.closed.append((_in(folder, ascii(entry.name)[1:-1]), error.strerror or str(error)))
        return None


def _in(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _by_code(names: Sequence[str], folder: str) -> dict[str, list[str]]:
    """Code → its files among `names`. Case does not count; the first spelling is kept.

    A file named `protein.pdb` takes its folder's name as its code.
    """
    found: dict[str, list[str]] = defaultdict(list)
    whole: dict[str, list[str]] = defaultdict(list)
    spelt: dict[str, str] = {}
    for name in names:
        stem, extension = _split(name)
        part = _PART.fullmatch(stem)
        if part:
            code = part[1] or folder
            spelt.setdefault(code.lower(), code)
            found[code.lower()].append(name)
        elif extension in PROTEIN_EXTENSIONS:
            whole[stem.lower()].append(name)
    # A whole entry can replace the protein file, but is no complex by itself.
    return {spelt[code]: files + whole.get(code, []) for code, files in found.items()}


def _split(name: str) -> tuple[str, str]:
    """(stem, extension in lower case without a final .gz)."""
    plain = name[:-3] if name.lower().endswith(".gz") else name
    stem, dot, extension = plain.rpartition(".")
    return (stem, f".{extension.lower()}") if dot else (plain, "")


def _part(name: str) -> str:
    """The part that a file's name gives: protein, pocket or ligand; empty if none."""
    match = _PART.fullmatch(_split(name)[0])
    return match[2].lower() if match else ""


def _ranked(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """(protein files, ligand files), best first: protein, whole entry, pocket; then by extension, plain before gzipped."""

    def chosen(parts: tuple[str, ...], extensions: tuple[str, ...]) -> list[str]:
        usable = [name for name in files if _part(name) in parts and _split(name)[1] in extensions]
        return sorted(usable, key=lambda name: (
            parts.index(_part(name)), extensions.index(_split(name)[1]), name.lower().endswith(".gz"), name
        ))  # fmt: skip

    return chosen(("protein", "", "pocket"), PROTEIN_EXTENSIONS), chosen(("ligand",), LIGAND_EXTENSIONS)


def _candidates(
    root: Path, tree: FolderTree, entries: Mapping[str, IndexEntry], index: IndexFile | None
) -> Iterator[Listed]:
    first: dict[str, str] = {}
    for code, folder, files in tree.complexes:
        if code.lower() in first:
            yield _duplicate(root, code, folder, first[code.lower()])
        else:
            first[code.lower()] = folder or "."
            yield _candidate(root / folder, folder, _labelled(code, entries, index), files)
    for folder in tree.bare:
        code = Path(folder).name
        if code.lower() not in first:
            first[code.lower()] = folder
            yield _without(root / folder, _labelled(code, entries, index), [])
    for folder, why in tree.closed:
        code = Path(folder).name
        known = code.lower() in first
        first.setdefault(code.lower(), folder)
        yield rejected(_labelled(folder if known else code, entries, index), StructureError(
            Reason.UNREADABLE, folder, got=why, expected="a folder that can be read", fix=_CHECK
        ))  # fmt: skip
    for code, entry in entries.items():
        if code not in first and index is not None:
            yield rejected(_labelled(entry.code, entries, index), StructureError(
                Reason.NO_FILES, index.path.name,
                got=f"{entry.code}, which has no folder", expected=f"{entry.code}/{entry.code}_protein.pdb and _ligand.sdf",
                fix="Fetch its files if it should be trained on.",
            ))  # fmt: skip


def _labelled(code: str, entries: Mapping[str, IndexEntry], index: IndexFile | None) -> Row:
    """The row of a complex, with its label, resolution and year from the index."""
    entry = entries.get(code.lower())
    if entry is not None:
        return Row(
            id=code, status="ok", label=entry.label, resolution=entry.resolution, year=entry.year, notes=entry.notes
        )
    return Row(id=code, status="ok", notes=(f"no label: not in {index.path.name}",) if index else ())


def _candidate(place: Path, folder: str, row: Row, files: Sequence[str]) -> Listed:
    proteins, ligands = _ranked(files)
    if not proteins or not ligands:
        return _without(place, row, files, missing="ligand" if proteins else "protein")
    if _part(proteins[0]) == "pocket":
        row = row.model_copy(update={"repairs": (POCKET_FOR_PROTEIN,)})
    return Listed(row, tuple(_in(folder, name) for name in proteins), tuple(_in(folder, name) for name in ligands))


def _without(place: Path, row: Row, files: Sequence[str], *, missing: str = "") -> Listed:
    extensions = LIGAND_EXTENSIONS if missing == "ligand" else PROTEIN_EXTENSIONS
    beside = f" beside {', '.join(files[:3])}" if files else ""
    return rejected(row, StructureError(
        Reason.MISSING if missing else Reason.NO_FILES, place.name,
        got=f"no {missing} file{beside}" if missing else "no structure files",
        expected=f"{row.id}_{missing or 'protein'} with one of {', '.join(extensions)}, plain or followed by .gz",
        fix="Fetch the files again, or remove the folder.",
    ))  # fmt: skip


def _duplicate(root: Path, code: str, folder: str, first: str) -> Listed:
    name = folder or root.name
    return rejected(Row(id=f"{code} ({name})", status="ok"), StructureError(
        Reason.DUPLICATE, name,
        got=f"{code}, which {first} holds too", expected="each complex once", fix="Remove one of them.",
    ))  # fmt: skip
