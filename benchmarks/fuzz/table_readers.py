"""Indices, manifests, lists, clusters, and folders with the names that people and programs give."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.fuzz.changes import RAW, any_of, noise, text_change, whole, wide
from benchmarks.fuzz.judging import FuzzedReader
from benchmarks.fuzz.standing import invented_labels
from compass.data.scan.index import choose_index, index_warnings, read_index, require_entries
from compass.data.scan.manifest import list_manifest
from compass.data.scan.tree import list_tree
from compass.data.splits.split_files import read_clusters, read_lists, resolver
from compass.optimizer_config import DatasetRules, SplitRules

_INDEX = b"""# PDB code, resolution, release year, -logKd/Ki, Kd/Ki, reference
2tpi  2.10  1982  4.31  Kd=49uM  // 2tpi.pdf (2-mer)
4tln  NMR   1982  3.72  Ki<0.19mM  // 4tln.pdf (LNO) covalent complex
1rnt  .86   1988  5.19  IC50~6.5nM // 1rnt.pdf (2GP)
"""
_CORE = b"#code  resl year logKa Ka target\n1abc  2.00  2011  2.06  Ki=8.7mM  2\n2xyz  1.9  2012  5.0  Ki<10uM 2\n"
_CSV = b"id,protein,ligand,label,split,relation\n1abc,a.pdb,a.sdf,5.2,train,=\n2xyz,b/b.pdb,b.sdf,Kd=49uM,test,\n3,c.pdb,c.sdf,,val,<\n"
_SEMICOLONS = b'ID;Protein;Ligand;Label\n1abc;a.pdb;a.sdf;6.1\n"2;x";b.pdb;b.sdf;nan\n'
_TABLE = b"pdb_id,value,kd/ki,resolution,date,new_split,covalent,relation\n1abc,5.2,Kd=6.3uM,2.1,1999,train,0,\n2xyz,4.1,,NMR,2001-02-03,test,1,<\n"
_LISTS = [b"1abc\n2xyz 3foo\n# comment\n", b"1ABC_A 2xyz_1\n3foo\n", b"1abc\t2xyz\n1abc\t3foo\n"]
_IDS = ("1abc", "2xyz", "3foo", "é", "4bar")
_NAMES = (
    b"1abc_protein.pdb", b"1abc_ligand.sdf", b"1abc_ligand.mol2", b"1abc_pocket.pdb", b"1ABC_protein.PDB.gz", b"receptor.pdb", b"system.cif",
    b"INDEX_general_PL_data.2020", b"CoreSet.dat", b"\xff_ligand.sdf", b"a\nb_ligand.sdf", b"\x1b[2J_protein.pdb", b"_ligand.sdf", b".pdb", b".",
    b"x" * 200 + b"_ligand.sdf", "Ａ_ligand.sdf".encode(), "\u202e_protein.pdb".encode(), b"1abc", b"ligand_files", b"-rf", b"a b_protein.pdb",
    b"ligand.sdf", b"protein.pdb", b"1abc ligand.sdf", b"1abc__ligand.sdf", "é_ligand.sdf".encode(), "e\u0301_ligand.sdf".encode(),
)  # fmt: skip


def _rows_of_index(data: bytes, name: str) -> Any:
    path = Path(name)
    path.write_bytes(data)
    index = read_index(path)
    codes = set(index.entries)
    choose_index([index], codes)
    index_warnings(index, codes)
    rows = [(entry.code, None if entry.label is None else entry.label.pk) for entry in index.entries.values()]
    require_entries(index)
    return rows


def _rows_of_manifest(data: bytes, name: str) -> Any:
    path = Path(name)
    path.write_bytes(data)
    found = list_manifest(path).complexes
    return [("", None if one.row.label is None else one.row.label.pk) for one in found]


def _parquet_seeds() -> list[bytes]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return []
    columns = {
        "id": ["1abc", "2xyz", None],
        "protein": ["a.pdb", "b.pdb", ""],
        "ligand": ["a.sdf", "b.sdf", "c"],
        "label": [5.5, 6.25, None],
    }
    words = columns | {"label": ["5.5", "Kd=49uM", ""], "split": ["train", "test", "x"]}
    odd = columns | {"id": [[1], [2], []], "label": [b"\xff", b"5.5", None]}
    found = []
    for table in (columns, words, odd):
        for compression in ("snappy", "none", "gzip"):
            file = io.BytesIO()
            parquet.write_table(pa.table(table), file, compression=compression)
            found.append(file.getvalue())
    return found


def _parquet_bomb(n_rows: int, cell: str | None) -> Callable[[], bytes]:
    """A small file of many rows, all alike."""

    def bomb() -> bytes:
        import pyarrow as pa
        from pyarrow import parquet

        file = io.BytesIO()
        kind = pa.dictionary(pa.int32(), pa.string())
        column = pa.DictionaryArray.from_arrays(
            pa.array([0 if cell else None] * min(n_rows, 100_000), pa.int32()), pa.array([cell or ""])
        )
        table = pa.table(dict.fromkeys(("id", "protein", "ligand", "label"), column))
        with parquet.ParquetWriter(file, pa.schema([(name, kind) for name in table.column_names])) as writer:
            for _ in range(max(1, n_rows // 100_000)):
                writer.write_table(table)
        return file.getvalue()

    return bomb


def _lists(data: bytes) -> Any:
    first, _, rest = data.partition(b"\n#\n")
    Path("train.txt").write_bytes(first)
    Path("test.txt").write_bytes(rest)
    found = read_lists(SplitRules(train_list="train.txt", test_list="test.txt"), resolver(_IDS))
    return [(name, None) for name in found]


def _clusters(data: bytes) -> Any:
    Path("clusters.tsv").write_bytes(data)
    return [(name, None) for name in read_clusters("clusters.tsv", resolver(_IDS))]


def _folder(data: bytes) -> Any:
    """A folder with a file or folder for each line: names are bytes."""
    root = os.fsencode(Path("tree").absolute())
    shutil.rmtree(root, ignore_errors=True)
    os.mkdir(root)  # noqa: PTH102 - names that are no text
    for line in data.split(b"\0")[:40]:
        kind, name = line[:1], line[1:]
        try:
            place = os.path.join(root, name.lstrip(b"/").replace(b"..", b""))  # noqa: PTH118
            os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120
            if kind == b"d":
                os.makedirs(place, exist_ok=True)  # noqa: PTH103
            elif kind == b"l":
                os.symlink(root, place)  # noqa: PTH211
            elif kind == b"p":
                os.mkfifo(place)
            else:
                with open(place, "xb") as file:  # noqa: PTH123
                    file.write(_INDEX if b"INDEX" in name else _CORE)
        except (OSError, ValueError):
            continue
    listing = list_tree(Path("tree"), DatasetRules())
    return [(one.row.id, None if one.row.label is None else one.row.label.pk) for one in listing.complexes]


def _name_change(data: bytes, chance: Random) -> bytes:
    """Other files in a folder."""
    names = data.split(b"\0")
    for _ in range(chance.randint(1, 6)):
        what = chance.randrange(4)
        name = chance.choice(_NAMES)
        if what == 0:
            names.append(chance.choice((b"f", b"f", b"f", b"d", b"l", b"p")) + name)
        elif what == 1:
            names.append(b"f" + chance.choice((b"1abc/", b"v2020/2xyz/", b"a/b/c/d/", b"\xff/")) + name)
        elif what == 2:
            names.append(b"f" + any_of(*RAW)(name, chance))
        else:
            names.append(b"f" + noise(chance.randint(1, 20), chance))
    return b"\0".join(names)


def _path_reader(
    name: str, read: Callable[[bytes, str], Any]
) -> tuple[Callable[[bytes], Any], Path, Callable[[], Any]]:
    """(reads bytes, the file, reads what lies there)."""
    path = Path(name)
    place: Callable[[], Any] = (
        (lambda: list_manifest(path)) if read is _rows_of_manifest else (lambda: read_index(path))
    )
    return (lambda data: read(data, name)), path, place


def table_readers() -> Iterator[FuzzedReader]:
    """The readers of indices, tables, lists and folders."""
    units = (
        b"Kd=49uM",
        "Ki=1µM".encode(),
        b"IC50>1M",
        b"Kd=0nM",
        b"Kd=1e-400nM",
        b"//",
        b"NMR",
        b"Kd=" + b"9" * 400 + b"M",
        b"# R-factor\n",
    )
    files: tuple[tuple[str, str, list[bytes], Callable[[bytes, str], Any]], ...] = (
        ("index", "INDEX_x", [_INDEX, _CORE], _rows_of_index),
        ("index as a table", "index.csv", [_TABLE, _SEMICOLONS], _rows_of_index),
        ("manifest, CSV", "m.csv", [_CSV, _SEMICOLONS], _rows_of_manifest),
    )
    for title, name, seeds, read in files:
        reading, path, place = _path_reader(name, read)
        cells = (b",", b'"', b";", b"\n", b"id", b"label", b"split", b"train", b'"a\nb"', b",,,,,")
        bombs = [
            whole(b""), whole(b"\n"), wide(b"id,protein,ligand,label\n", b"x" * 30), wide(b'id,protein,ligand,label\n"', b"x,\n"),
            wide(b"", b"id,", n=300_000), wide(b"1abc 2.0 2000 ", b"5.0 ", n=200_000), wide(b"1abc 2.0 2000 // (", b"(", n=100_000),
            wide(b"1abc 2.0 2000 ", b"Kd", n=100_000), wide(b"1abc 2.0 2000 ", b"=" * 100, n=1000), wide(b"", b"1abc 2.0 2000 Kd=1uM\n", n=50_000),
            wide(b"1abc 2.0 2000 Kd=1uM // (", b"()", n=20_000),
        ]  # fmt: skip
        yield FuzzedReader(
            title, seeds, reading, text_change(*cells, *units), invented_labels, bombs, path, place, weight=1.0
        )
    if parquets := _parquet_seeds():
        reading, path, place = _path_reader("m.parquet", _rows_of_manifest)
        bombs = [
            _parquet_bomb(30_000_000, None),
            _parquet_bomb(2_000_000, "x" * 1000),
            _parquet_bomb(2_000, "x" * 1_000_000),
            whole(b"PAR1PAR1"),
        ]
        yield FuzzedReader(
            "manifest, Parquet", parquets, reading, any_of(*RAW), special=bombs, path=path, read_place=place, weight=0.6
        )
    change = text_change(*(name.encode() for name in _IDS), b"_A", b"\n#\n", b"#")
    big = [whole(b""), wide(b"", b"1abc\n"), wide(b"", b"1abc 2xyz "), wide(b"", b"x" * 30)]
    yield FuzzedReader("split lists", _LISTS, _lists, change, invented_labels, big, weight=0.5)
    path = Path("clusters.tsv")
    yield FuzzedReader("clusters", _LISTS, _clusters, change, invented_labels, big, path,
                       lambda: read_clusters("clusters.tsv", resolver(_IDS)), weight=0.5)  # fmt: skip
    tree = b"f1abc/1abc_protein.pdb\0f1abc/1abc_ligand.sdf\0fINDEX_general_PL_data.2020"
    yield FuzzedReader(
        "folders and names",
        [tree, b"d2xyz\0fINDEX_x\0fa_ligand.sdf\0fa_protein.pdb"],
        _folder,
        _name_change,
        weight=0.3,
    )
