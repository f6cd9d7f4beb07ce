"""PDBbind-style folders: their complexes, the files of each complex, and the index files.

Complexes are recognised by file names such as `<code>_protein.pdb`. The depth of a folder does not matter, and several
complexes may share one. PLINDER's systems (`receptor.pdb` or `system.cif` beside `ligand_files/`) are read too.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compass.data.scan.index import IndexEntry, IndexFile, choose_index, index_warnings, read_index, require_entries
from compass.data.scan.listing import POCKET_FOR_PROTEIN, Listed, Listing, each_id_once, rejected
from compass.data.scan.names import (
    LIGAND_EXTENSIONS,
    PROTEIN_EXTENSIONS,
    PartNames,
    is_structure,
    is_text,
    ranked,
    split_name,
)
from compass.data.scan.rows import Row
from compass.data.structures.structure_file import Reason, StructureError
from compass.errors import InputError
from compass.optimizer_config import DatasetRules
from compass.units import format_count

DEEPEST = 3
"""Levels below the given folder: PDBbind's releases nest complexes by one or two."""
LIGAND_FOLDER = "ligand_files"
"""PLINDER's folder of a system's ligands."""

_PDB_CODE = re.compile(r"\d[a-z0-9]{3}|pdb_[a-z0-9]{8}", re.IGNORECASE)
_INDEX = re.compile(r"(INDEX|CoreSet)", re.IGNORECASE)
_NO_INDEX = {".gz", ".tgz", ".tar", ".zip", ".pdf", ".html", ".htm"}
_N_NAMED = 5
_CHECK = "Check its name and permissions."


@dataclass
class ListedFiles:
    """The files of one complex, relative to its folder."""

    code: str
    folder: str
    proteins: list[str] = field(default_factory=list)
    """Best first, pocket files last."""
    ligands: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    """Other files of the complex, or of its folder, that are not used."""
    pockets: frozenset[str] = frozenset()
    """Those of `proteins` that hold a pocket."""


@dataclass
class FolderTree:
    """The content of a folder, after a walk through it."""

    complexes: list[ListedFiles] = field(default_factory=list)
    indices: list[str] = field(default_factory=list)
    bare: list[ListedFiles] = field(default_factory=list)
    """Folders named like a PDB entry without a complex."""
    passed_over: list[str] = field(default_factory=list)
    """Other folders without structure or index files."""
    unknown: list[str] = field(default_factory=list)
    """Structure files whose names are no part's."""
    unnamed: list[str] = field(default_factory=list)
    """Files whose names are not valid text."""
    too_deep: list[str] = field(default_factory=list)
    """Folders below the deepest level that is searched."""
    closed: list[tuple[str, str]] = field(default_factory=list)
    """(folder, why it cannot be read)."""


def list_tree(root: Path, rules: DatasetRules) -> Listing:
    """The complexes below `root`, with their labels from the rules' index file or, if there is none, from those found there.

    Raises:
        InputError: no complexes, or the index file is not an index.
    """
    tree = walk(root, PartNames.of(rules))
    if not tree.complexes and not tree.bare:
        passed = f"; {_some(tree.unknown)} passed over" if tree.unknown else ""
        passed += f"; {_some(tree.too_deep)} too deep to be searched" if tree.too_deep else ""
        raise InputError(
            str(root),
            got=f"no complexes{passed}",
            expected="folders such as 1abc with 1abc_protein.pdb and 1abc_ligand.sdf",
            fix="Check the path, or list the files in a CSV manifest.",
        )
    codes = {found.code.lower() for found in tree.complexes}
    used, warnings = _index(root, rules.index, tree, codes)
    entries = used.entries if used else {}
    complexes = each_id_once(_listed(root, tree, entries, used))
    labels = ", ".join(map(str, (used.path, *used.others))) if used else ""
    return Listing(root=root, complexes=complexes, labels=labels, warnings=(*warnings, *_warnings(tree)))


def _warnings(tree: FolderTree) -> Iterator[str]:
    if tree.passed_over:
        yield f"folders without structure files, passed over: {_some(tree.passed_over)}"
    if tree.too_deep:
        yield f"folders more than {DEEPEST} levels down, not searched: {_some(tree.too_deep)}"
    if tree.unknown:
        yield (
            f"structure files with other names, passed over: {_some(tree.unknown)} "
            "(dataset.protein_suffixes and ligand_suffixes say which names count)"
        )
    if tree.unnamed:
        yield f"files whose names are not valid text, passed over: {_some(tree.unnamed)}"
    again = Counter(found.code.lower() for found in tree.complexes)
    spelt = sorted({found.code for found in tree.complexes if again[found.code.lower()] > 1})
    if len({code.lower() for code in spelt}) < len(spelt):
        yield f"ids that differ only in case are complexes of their own: {_some(spelt)}"


def _some(names: Sequence[str]) -> str:
    n_more = len(names) - _N_NAMED
    return ", ".join(names[:_N_NAMED]) + (f" and {format_count(n_more)} more" if n_more > 0 else "")


def _index(root: Path, named: str, tree: FolderTree, codes: set[str]) -> tuple[IndexFile | None, tuple[str, ...]]:
    if not named:
        return choose_index([read_index(root / name) for name in tree.indices], codes)
    index = read_index(Path(named))
    require_entries(index)
    return index, index_warnings(index, codes)


# ---------------------------------------------------------------------------------------------------------------- walk


def walk(root: Path, names: PartNames) -> FolderTree:
    """Structure and index files below `root`, folder by folder in the order of names. Links are followed."""
    tree = FolderTree()
    folders = {folder: (depth, files) for folder, depth, files in _folders(root, "", 0, tree)}
    empty: list[tuple[str, list[str]]] = []
    for folder, (depth, files) in folders.items():
        if Path(folder).name == LIGAND_FOLDER:
            continue
        indices = [name for name in files if _INDEX.match(name) and Path(name).suffix not in _NO_INDEX]
        tree.indices += [_in(folder, name) for name in indices]
        inside = folders.get(_in(folder, LIGAND_FOLDER), (0, []))[1]
        complexes = _complexes(files, folder, Path(folder).name if folder else root.resolve().name, names, inside)
        tree.complexes += complexes
        _pass_over(tree, folder, files, complexes)
        if not complexes and not indices and depth:
            empty.append((folder, [name for name in files if is_structure(name)]))
    # A folder that only holds other folders was passed through, not over.
    through = _parents([_in(found.folder, "x") for found in tree.complexes] + tree.indices)
    tree.bare = [
        ListedFiles(Path(folder).name, folder, beside=files)
        for folder, files in empty
        if folder not in through and _PDB_CODE.fullmatch(Path(folder).name)
    ]
    bare = {found.folder for found in tree.bare}
    through |= _parents(bare) | bare
    tree.passed_over = [folder for folder, files in empty if folder not in through and not files]
    tree.unknown = [name for name in tree.unknown if str(Path(name).parent) not in bare]
    return tree


def _pass_over(tree: FolderTree, folder: str, files: Sequence[str], complexes: Sequence[ListedFiles]) -> None:
    """Remember the structure files that no complex uses or names."""
    used = {name for found in complexes for name in (*found.proteins, *found.ligands)}
    used |= {name for found in complexes if not (found.proteins and found.ligands) for name in found.beside}
    tree.unknown += [_in(folder, name) for name in files if is_structure(name) and name not in used]


def _parents(paths: Sequence[str] | set[str]) -> set[str]:
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
    files = [name for name, is_folder in seen if not is_folder]
    tree.unnamed += [_in(folder, ascii(name)) for name in files if not is_text(name)]
    yield folder, depth, [name for name in files if is_text(name)]
    for name in (name for name, is_folder in seen if is_folder):
        if depth >= DEEPEST and name != LIGAND_FOLDER:
            tree.too_deep.append(_in(folder, name if is_text(name) else ascii(name)))
        elif is_text(name):
            yield from _folders(root, _in(folder, name), depth + 1, tree)
        else:
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


# ----------------------------------------------------------------------------------------------------------- complexes


def _complexes(
    files: Sequence[str], folder: str, folder_name: str, names: PartNames, inside: Sequence[str]
) -> list[ListedFiles]:
    """The complexes among `files`; those `inside` the folder of ligands belong to the folder's own protein.

    A file without a code in its name, such as `protein.pdb`, takes its folder's name as its code.
    """
    by_code: dict[str, list[str]] = defaultdict(list)
    whole: dict[str, list[str]] = defaultdict(list)
    for name in files:
        part = names.split(name)
        stem, extension = split_name(name)
        if part is not None:
            by_code[part[0] or folder_name].append(name)
        elif names.is_named(name) and (code := _code_before(name, names)):
            by_code[code or folder_name].append(name)
        elif extension in PROTEIN_EXTENSIONS:
            whole[stem.lower()].append(name)
    for name in files:
        if is_structure(name) and not any(name in members for members in by_code.values()):
            owner = _owner(split_name(name)[0], by_code)
            if owner:
                by_code[owner].append(name)
    if inside:
        return _of_system(by_code.get(folder_name, []), whole.get("system", []), inside, folder, folder_name, names)
    return [
        _complex(code, folder, members, whole.get(code.lower(), []), names)
        for code, members in _merged_case(by_code, names).items()
    ]


def _owner(stem: str, codes: Iterable[str]) -> str:
    """The longest code that a file's stem begins with; empty if there is none, or if the stem is the code."""
    lower = stem.lower()
    return max(
        (code for code in codes if lower.startswith(code.lower()) and lower[len(code) :][:1] in {"_", "-", ".", " "}),
        key=len,
        default="",
    )


def _code_before(name: str, names: PartNames) -> str:
    """The code of a file with a part's name and a foreign extension, such as `1abc_ligand.pdbqt`."""
    stem, _ = split_name(name)
    found = names.split(f"{stem}.pdb") or names.split(f"{stem}.sdf")
    return found[0] if found else ""


def _merged_case(by_code: Mapping[str, list[str]], names: PartNames) -> dict[str, list[str]]:
    """Codes that differ only in case are one complex if they complete each other: a protein here, its ligand there.

    Two ligands, or two proteins, are those of two complexes.
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for code in by_code:
        spellings[code.lower()].append(code)
    merged: dict[str, list[str]] = {}
    for same in spellings.values():
        if _any_twice(by_code, same, names):
            merged |= {code: by_code[code] for code in same}
        else:
            merged[same[0]] = [name for code in same for name in by_code[code]]
    return merged


def _any_twice(by_code: Mapping[str, list[str]], same: Sequence[str], names: PartNames) -> bool:
    """Whether two of the codes in `same` each have a ligand, or each have a protein or pocket."""
    sides = [{part[1] == "ligand" for name in by_code[code] if (part := names.split(name))} for code in same]
    return any(sum(side in found for found in sides) > 1 for side in (True, False))


def _complex(code: str, folder: str, members: Sequence[str], whole: Sequence[str], names: PartNames) -> ListedFiles:
    """One complex: the protein file, the whole entry, the pocket, in this order; then by extension, plain before gzipped."""
    found = ListedFiles(code, folder)
    parts = {name: part for name in members if (part := names.split(name))}

    def of(kind: str, extensions: Sequence[str]) -> list[str]:
        own = ranked([name for name, part in parts.items() if part[1] == kind], extensions)
        return sorted(own, key=lambda name: parts[name][2])

    pockets = of("pocket", PROTEIN_EXTENSIONS)
    found.proteins = [*of("protein", PROTEIN_EXTENSIONS), *ranked(whole, PROTEIN_EXTENSIONS), *pockets]
    found.pockets = frozenset(pockets)
    found.ligands = of("ligand", LIGAND_EXTENSIONS)
    found.beside = [name for name in members if name not in parts]
    return found


def _of_system(
    members: Sequence[str], system: Sequence[str], inside: Sequence[str], folder: str, code: str, names: PartNames
) -> list[ListedFiles]:
    """A PLINDER system: one complex for each of its ligands."""
    ligands = ranked([name for name in inside if split_name(name)[1] in LIGAND_EXTENSIONS], LIGAND_EXTENSIONS)
    own = _complex(code, folder, members, system, names)
    return [
        ListedFiles(
            code if len(ligands) == 1 else f"{code}__{split_name(name)[0]}",
            folder,
            own.proteins,
            [f"{LIGAND_FOLDER}/{name}"],
            [*own.ligands, *own.beside],
            own.pockets,
        )
        for name in ligands
    ]


# ---------------------------------------------------------------------------------------------------------------- rows


def _listed(
    root: Path, tree: FolderTree, entries: Mapping[str, IndexEntry], index: IndexFile | None
) -> Iterator[Listed]:
    first: dict[str, str] = {}
    for found in tree.complexes:
        if found.code in first:
            yield _duplicate(root, found.code, found.folder, first[found.code])
        else:
            first[found.code] = found.folder or "."
            yield _with_files(root / found.folder, found, _labelled(found.code, entries, index))
    known = {code.lower() for code in first}
    for found in tree.bare:
        if found.code.lower() not in known:
            known.add(found.code.lower())
            yield _without(root / found.folder, _labelled(found.code, entries, index), found)
    for folder, why in tree.closed:
        code = Path(folder).name
        name = folder if code.lower() in known else code
        known.add(code.lower())
        yield rejected(
            _labelled(name, entries, index),
            StructureError(Reason.UNREADABLE, folder, got=why, expected="a folder that can be read", fix=_CHECK),
        )
    for code, entry in entries.items():
        if code not in known and index is not None:
            yield rejected(
                _labelled(entry.code, entries, index),
                StructureError(
                    Reason.NO_FILES,
                    index.path.name,
                    got=f"{entry.code}, which has no folder",
                    expected=f"{entry.code}/{entry.code}_protein.pdb and _ligand.sdf",
                    fix="Fetch its files if it should be trained on.",
                ),
            )


def _labelled(code: str, entries: Mapping[str, IndexEntry], index: IndexFile | None) -> Row:
    """The row of a complex, with its label, resolution and year from the index."""
    entry = entries.get(code.lower())
    if entry is not None:
        return Row(
            id=code,
            status="ok",
            label=entry.label,
            resolution=entry.resolution,
            year=entry.year,
            split=entry.split,
            notes=entry.notes,
        )
    return Row(id=code, status="ok", notes=(f"no label: not in {index.path.name}",) if index else ())


def _with_files(place: Path, found: ListedFiles, row: Row) -> Listed:
    if not found.proteins or not found.ligands:
        return _without(place, row, found)
    if found.proteins[0] in found.pockets:
        row = row.model_copy(update={"repairs": (POCKET_FOR_PROTEIN,)})
    return Listed(
        row,
        tuple(_in(found.folder, name) for name in found.proteins),
        tuple(_in(found.folder, name) for name in found.ligands),
    )


def _without(place: Path, row: Row, found: ListedFiles) -> Listed:
    files = [*found.proteins, *found.ligands, *found.beside]
    has_protein = bool(found.proteins) or any(split_name(name)[1] in PROTEIN_EXTENSIONS for name in found.beside)
    missing = "" if not files else "ligand" if has_protein and not found.ligands else "protein"
    extensions = LIGAND_EXTENSIONS if missing == "ligand" else PROTEIN_EXTENSIONS
    beside = f" beside {', '.join(sorted(files)[:3])}" if files else ""
    return rejected(
        row,
        StructureError(
            Reason.MISSING if missing else Reason.NO_FILES,
            place.name,
            got=f"no {missing} file{beside}" if missing else "no structure files",
            expected=f"{row.id}_{missing or 'protein'} with one of {', '.join(extensions)}, plain or followed by .gz",
            fix="Fetch the files again, or remove the folder.",
        ),
    )


def _duplicate(root: Path, code: str, folder: str, first: str) -> Listed:
    name = folder or root.name
    return rejected(
        Row(id=f"{code} ({name})", status="ok"),
        StructureError(
            Reason.DUPLICATE,
            name,
            got=f"{code}, which {first} holds too",
            expected="each complex once",
            fix="Remove one of them.",
        ),
    )
