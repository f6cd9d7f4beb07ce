"""Structure files: PDB, mmCIF, SDF and MOL2, plain and gzipped; a ligand's chemistry; a whole complex."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import gemmi

from benchmarks.fuzz.changes import deep, gzip_bomb, spliced, text_change, whole, wide, zipped
from benchmarks.fuzz.judging import Change, FuzzedReader, Judge
from benchmarks.fuzz.standing import invented_in_pdb, invented_in_words, unpacked
from benchmarks.mutated_files import FILES, Pair, sdf_atoms
from benchmarks.mutations_of_ligands import GAFF, SYBYL, v3000
from compass.data.structures.graphs import build_graph
from compass.data.structures.ligand import read_ligand
from compass.data.structures.molecules import murcko_scaffold, read_chemistry
from compass.data.structures.protein import read_protein
from compass.data.structures.reading import read_complex
from compass.optimizer_config import GraphRules, StructureRules

_GIB = 1 << 30
_ATOM = b"ATOM      1  CA  ALA A   1      11.000  12.000  13.000  1.00  0.00           C  \n"
_RULES = (
    StructureRules(),
    StructureRules(hydrogens="keep", waters="keep", alternates="all", models="all", unknown_elements="drop"),
    StructureRules(cofactors="drop", metals="drop", alternates="first", unknown_elements="as_carbon"),
)
_PDB = (
    b"MODEL        1", b"MODEL        2", b"ENDMDL", b"TER", b"END", b"HETATM", b"atom  ", b"ATOMS ", b"REMARK 999", b"HOH", b"DUM",
    b"HETATM 9999  O   HOH Z9999      14.000  14.000  14.000  1.00  0.00           O  \n",
    b"HETATM 9999 ZN    ZN Z9998      16.000  14.000  24.000  1.00  0.00          ZN  \n",
    b"ATOM      1  CA AALA A   1      11.000  12.000  13.000  0.50  0.00           C  ATOM      2  CB AALA A   1      11.000",
)  # fmt: skip
_CIF = (
    b"loop_\n",
    b"data_x\n",
    b"_atom_site.id\n",
    b"save_x\n",
    b";\n",
    b"#\n",
    b"_atom_site.Cartn_x 1\n",
    b"stop_\n",
    b"global_\n",
)
_SDF = (
    b"$$$$\n",
    b"M  END\n",
    b"M  CHG  1   1   1\n",
    b"V3000",
    b"V2000",
    b"M  V30 BEGIN CTAB\n",
    b"-\nM  V30 ",
    b"R#",
    b"999999",
    b"A    1\n",
)
_MOL2 = (
    b"@<TRIPOS>MOLECULE\n",
    b"@<TRIPOS>ATOM\n",
    b"@<TRIPOS>BOND\n",
    b"@<TRIPOS>",
    b"C.3",
    b"Du",
    b"CA",
    b"1 C 1.0 2.0 3.0 C.3 1 L 0\n",
)


def good_pair() -> tuple[bytes, bytes]:
    """(protein, ligand) of 1bju, some residues only: most damage must hit something."""
    lines = (FILES / "1bju_protein.pdb").read_text().splitlines()
    atoms = [line for line in lines if line.startswith(("ATOM", "HETATM"))]
    return "\n".join([*atoms[:40], "TER", *atoms[-12:], "END", ""]).encode(), (FILES / "1bju_ligand.sdf").read_bytes()


def _seeds() -> dict[str, list[bytes]]:
    protein, ligand = good_pair()
    structure = gemmi.read_pdb_string(protein.decode())
    water = _PDB[-3] + _PDB[-2]
    pair, chance = Pair(protein.decode().splitlines(), ligand.decode().splitlines()), Random(5)
    texts = ["\n".join([*v3000(pair, chance).ligand, ""]).encode() for _ in range(3)]
    conformers = protein.replace(b" CA  HIS", b" CA AHIS", 1).replace(b" CB  HIS", b" CB BHIS", 1)
    return {
        "pdb": [protein, water + protein, b"MODEL        1\n" + protein.replace(b"END", b"ENDMDL") + b"MODEL        2\n" + protein, conformers],
        "cif": [structure.make_mmcif_document().as_string().encode(), structure.make_mmcif_block().as_string().encode()],
        "sdf": [ligand, ligand + ligand, *texts],
        "mol2": [_mol2_text(ligand.decode(), kinds) for kinds in (SYBYL, GAFF)],
    }  # fmt: skip


def _mol2_text(sdf: str, kinds: dict[str, list[str]]) -> bytes:
    """The same ligand as MOL2, with atom types of SYBYL or GAFF."""
    atoms = sdf_atoms(sdf)
    rows = [
        f"{i} {symbol}{i} {x:.4f} {y:.4f} {z:.4f} {kinds[symbol][0]} 1 LIG 0.0"
        for i, (symbol, x, y, z) in enumerate(atoms, start=1)
    ]
    lines = [
        "@<TRIPOS>MOLECULE",
        "LIG",
        f"{len(rows)} 1 1",
        "SMALL",
        "NO_CHARGES",
        "",
        "@<TRIPOS>ATOM",
        *rows,
        "@<TRIPOS>BOND",
        "1 1 2 1",
        "",
    ]
    return "\n".join(lines).encode()


def _protein(name: str) -> Callable[[bytes], Any]:
    path = Path(name)

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        table = read_protein(path, _RULES[len(data) % len(_RULES)])
        return table.elements, table.positions

    return read


def _ligand(name: str) -> Callable[[bytes], Any]:
    path = Path(name)

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        atoms = read_ligand(path)
        return atoms.elements, atoms.positions

    return read


def _chemistry(name: str) -> Callable[[bytes], Any]:
    path = Path(name)

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        molecule = read_chemistry(path)
        return None if molecule is None else murcko_scaffold(molecule)

    return read


def _complex(data: bytes) -> Any:
    """A protein and a ligand, one behind the other."""
    protein, _, ligand = data.partition(b"\n====\n")
    Path("x.pdb").write_bytes(protein)
    Path("x.sdf").write_bytes(ligand)
    found = read_complex(
        "x",
        Path("x.pdb"),
        Path("x.sdf"),
        pocket_radius=None if len(data) % 3 else 8.0,
        max_atoms=5_000,
        rules=_RULES[len(data) % 2],
    )
    return build_graph(found, GraphRules(), 0.0).n_edges


def _of_gzip(judge: Judge) -> Judge:
    return lambda data, value: judge(unpacked(data), value)


def _hetatm_line(place: str) -> bytes:
    return f"HETATM    1  C1  LIG A   1    {place}  1.00  0.00           C  \n".encode()


_BOMBS: dict[str, list[Callable[[], bytes]]] = {
    "pdb": [
        wide(b"", _ATOM, n=100_000), wide(b"", _ATOM[:54] + b"\n", n=400_000), wide(_ATOM, b"A" * 1000, n=60_000), wide(b"", b"MODEL\nATOM\n"),
        wide(b"", b"\n", n=60_000_000), whole(b""), whole(b"\n \n"), whole(b"\0" * 5000), wide(_ATOM, b"TER\n"), wide(b"", b"#ATOM  \n"),
        whole(_hetatm_line("99999.99999999.99999999.999")), wide(b"", _ATOM + b"END\n", n=20_000), wide(b"", b'" ' * 500 + b"\n", n=10_000),
    ],
    "cif": [
        wide(b"data_x\nloop_\n_atom_site.id\n_atom_site.Cartn_x\n", b"1 2\n"), wide(b"data_x\n", b"loop_\n"), wide(b"data_x\n_a ", b"'"),
        wide(b"", b"data_x\n", n=300_000), deep(b"save_x\n"), wide(b"data_x\n_a\n;", b"x" * 30), whole(b"data_\n"), whole(b""),
        wide(b"data_x\nloop_\n", b"_atom_site.id\n", n=100_000), whole(b"data_x\n_atom_site.id ''\n_atom_site.Cartn_x ''\n"),
    ],
    "sdf": [
        whole(b"x\n\n\n999999  0  0     0  0            999 V2000\nM  END\n"), whole(b"x\n\n\n  0  0\nM  V30 COUNTS 999999999 0 0 0 0 V3000\nM  END\n"),
        wide(b"", b"$$$$\n", n=5_000_000), wide(b"", b"x\n\n\n  0  0\nM  END\n$$$$\n"), wide(b"x\n\n\nV3000\nM  V30 ", b"-\nM  V30 ", b"\nM  END\n"),
        whole(b"x\n\n\n" + b"9" * 5000 + b" V2000\nM  END\n"), whole(b""), wide(b"M  END\n", b"x" * 60), whole(b"M  END"), wide(b"", b"\n", n=60_000_000),
    ],
    "mol2": [
        whole(b"@<TRIPOS>MOLECULE\nx\n" + b"9" * 5000 + b" 0\n@<TRIPOS>ATOM\n@<TRIPOS>BOND\n"), wide(b"", b"@<TRIPOS>MOLECULE\n"),
        whole(b"@<TRIPOS>MOLECULE\nx\n999999999 0\n@<TRIPOS>ATOM\n@<TRIPOS>BOND\n"), wide(b"@<TRIPOS>MOLECULE\nx\n1 0\n@<TRIPOS>ATOM\n", b"1 "),
        whole("@<TRIPOS>MOLECULE\nx\n² ²\n".encode()), whole(b""), wide(b"@<TRIPOS>MOLECULE\n", b"@<TRIPOS>X\n"),
    ],
}  # fmt: skip


def structure_readers() -> Iterator[FuzzedReader]:
    """The readers of structure files."""
    seeds = _seeds()
    kinds: tuple[tuple[str, str, tuple[bytes, ...], Callable[[str], Callable[[bytes], Any]], Judge], ...] = (
        ("PDB", "pdb", _PDB, _protein, invented_in_pdb),
        ("mmCIF", "cif", _CIF, _protein, invented_in_words),
        ("SDF", "sdf", _SDF, _ligand, invented_in_words),
        ("MOL2", "mol2", _MOL2, _ligand, invented_in_words),
    )
    for title, kind, words, reading, judge in kinds:
        change: Change = spliced(text_change(*words), seeds[kind])
        for suffix, made, own in (("", change, judge), (".gz", zipped(change), _of_gzip(judge))):
            path = Path(f"x.{kind}{suffix}")
            yield FuzzedReader(
                name=f"{title}{', gzipped' if suffix else ''}",
                seeds=seeds[kind],
                read=reading(path.name),
                change=made,
                invented=own,
                special=[gzip_bomb(_GIB), gzip_bomb(2 * _GIB, b"\n"), gzip_bomb(1 << 26, b"ATOM\n"), whole(b"")]
                if suffix
                else _BOMBS[kind],
                path=path,
                read_place=_at_place(path, reading),
                weight=0.4 if suffix else 1.2,
            )
    protein, ligand = good_pair()
    for kind in ("sdf", "mol2"):
        change = text_change(*(_SDF if kind == "sdf" else _MOL2))
        yield FuzzedReader(f"chemistry of {kind.upper()}", seeds[kind], _chemistry(f"c.{kind}"), change, weight=0.3)
    yield FuzzedReader(
        "complex", [protein + b"\n====\n" + ligand], _complex, text_change(*_PDB[:6], *_SDF[:4]), weight=0.4
    )


def _at_place(path: Path, reading: Callable[[str], Callable[[bytes], Any]]) -> Callable[[], Any]:
    if reading is _protein:
        return lambda: read_protein(path, _RULES[0])
    return lambda: read_ligand(path)
