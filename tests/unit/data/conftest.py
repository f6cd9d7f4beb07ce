"""Small structure files, written by hand, and the real complexes of the posebusters wheel."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

COMPLEXES = ("1s3v", "1ia1", "1uou", "1of6")


@pytest.fixture(scope="session")
def wheel_complexes() -> dict[str, tuple[Path, Path]]:
    """PDB id → (protein, ligand) files."""
    spec = find_spec("posebusters")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "datasets" / "pdb"
    return {
        name: (folder / name / f"{name}_protein_one_lig_removed.pdb", folder / name / f"{name}_ligand.sdf")
        for name in COMPLEXES
    }


class Pdb:
    """Writes PDB atom records; residues and serial numbers count themselves."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def atom(self, name, residue, number, xyz, *, element=None, het=False, alternate="", occupancy=1.0, chain="A"):
        element = name[0] if element is None else element
        x, y, z = xyz
        label = f"{name:<4}" if len(element) == 2 else f" {name:<3}"
        self.lines.append(
            f"{'HETATM' if het else 'ATOM  '}{len(self.lines) + 1:5d} {label}{alternate:1}{residue:>3} {chain:1}{number:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}{0:6.2f}          {element:>2}  "
        )
        return self

    def peptide(self, *, start=(0.0, 0.0, 0.0), n_residues=3, chain="A"):
        """Alanines without hydrogens, five atoms each, along x."""
        x, y, z = start
        for i in range(n_residues):
            at = x + 3.8 * i
            self.atom("N", "ALA", i + 1, (at, y, z), chain=chain)
            self.atom("CA", "ALA", i + 1, (at + 1.2, y + 0.8, z), chain=chain)
            self.atom("C", "ALA", i + 1, (at + 2.4, y, z), chain=chain)
            self.atom("O", "ALA", i + 1, (at + 2.4, y - 1.2, z), chain=chain)
            self.atom("CB", "ALA", i + 1, (at + 1.2, y + 1.6, z + 1.3), chain=chain)
        return self

    def raw(self, line):
        self.lines.append(line)
        return self

    def __str__(self):
        return "\n".join([*self.lines, "END", ""])


@pytest.fixture
def pdb() -> Pdb:
    return Pdb()


@pytest.fixture
def methanol_at():
    """An SDF record of C–O (and its hydrogen) beginning at a place, 3 Å above the peptide by default."""

    def write(xyz=(3.0, 0.0, 4.0), *, carbon="C", flat=False, title="methanol"):
        x, y, z = xyz
        rows = [(x, y, z, carbon), (x + 1.4, y, z + 0.1, "O"), (x + 1.8, y + 0.9, z + 0.2, "H")]
        lines = [title, "  hand", "", "  3  2  0  0  0  0  0  0  0  0999 V2000"]
        lines += [f"{a:10.4f}{b:10.4f}{0.0 if flat else c:10.4f} {e:<3} 0  0" for a, b, c, e in rows]
        lines += ["  1  2  1  0", "  2  3  1  0", "M  END", "$$$$", ""]
        return "\n".join(lines)

    return write
