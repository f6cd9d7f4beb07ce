"""Reading one complex from its files. The worker processes of a scan do this."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from compass.data.scan.listing import POCKET_FOR_PROTEIN, Listed
from compass.data.scan.rows import Row
from compass.data.structures.structure_file import Reason, StructureError
from compass.files import open_file
from compass.optimizer_config import GraphRules, OptimizerConfig, StructureRules
from compass.records import Record, digest

if TYPE_CHECKING:
    from compass.data.structures.complexes import Complex

READING_VERSION = 4
"""Raised whenever the same files and rules give another result than before."""
POCKET_FILE_ANGSTROM = 10.0
"""Reach of PDBbind's pocket files around the ligand, in Å."""
NOT_A_FILES_FAULT = {Reason.TOO_MANY_ATOMS, Reason.EMPTY_POCKET}
"""Reasons that another file of the same complex would not remedy."""


class ReadResult(Record):
    """The result of reading a complex: the part of its row that depends only on its files and the rules."""

    status: Literal["ok", "repaired", "rejected"]
    reason: str = ""
    detail: str = ""
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    protein: str = ""
    ligand: str = ""
    sizes: tuple[tuple[str, float], ...] = ()

    def completes(self, row: Row, key: str) -> Row:
        """`row` completed with this result."""
        repairs = tuple(dict.fromkeys((*row.repairs, *self.repairs)))
        status = "repaired" if self.status == "ok" and repairs else self.status
        notes = (*row.notes, *self.notes)
        return row.model_copy(update={**dict(self), "status": status, "repairs": repairs, "notes": notes, "key": key})


@dataclass(frozen=True)
class PackedAtoms:
    """The atoms of a complex as bytes: n elements (uint8), 3n positions (float32, Å), n ligand flags (uint8)."""

    elements: bytes
    positions: bytes
    is_ligand: bytes

    @classmethod
    def of(cls, complex_: Complex) -> Self:
        """The atoms of `complex_`."""
        return cls(
            complex_.elements.astype(np.uint8).tobytes(),
            complex_.positions.astype("<f4").tobytes(),
            complex_.is_ligand.astype(np.uint8).tobytes(),
        )

    def named(self, name: str) -> Complex:
        """The complex, called `name`."""
        from compass.data.structures.complexes import Complex

        return Complex(
            name,
            np.frombuffer(self.elements, np.uint8).astype(np.int64),
            np.frombuffer(self.positions, "<f4").reshape(-1, 3).astype(np.float32),
            np.frombuffer(self.is_ligand, np.uint8).astype(np.bool_),
        )


@dataclass(frozen=True)
class Reading:
    """One complex after its files were looked at."""

    key: str
    """Digest of its files and the rules: equal keys mean equal results. Empty after a crash."""
    outcome: ReadResult | None = None
    """None if the key was known, so that nothing was read."""
    atoms: PackedAtoms | None = None
    """None if rejected or not read."""
    lasting: bool = True
    """Whether the result may be stored: not if the system could not open a file, or the reading crashed."""


@dataclass(frozen=True)
class ReadingRules:
    """All rules that the result of reading depends on."""

    structures: StructureRules
    graph: GraphRules
    pocket_radius: float | None
    max_atoms: int

    @classmethod
    def of(cls, config: OptimizerConfig) -> Self:
        """The reading rules of `config`."""
        return cls(config.structures, config.graph, config.dataset.pocket_radius, config.dataset.max_atoms)

    @property
    def digest(self) -> str:
        """Sixteen hex digits that change with any rule."""
        return digest(READING_VERSION, self)


@dataclass(frozen=True)
class Reader:
    """Reads complexes. It is pickled to each worker once, with the keys that need no reading."""

    root: Path
    rules: ReadingRules
    known: frozenset[str] = frozenset()

    def __call__(self, candidate: Listed) -> Reading:
        """Read `candidate`. Faults of its files are part of the result."""
        try:
            key = self.key(candidate)
            return Reading(key) if key in self.known else self._read(candidate, key)
        except Exception as error:  # noqa: BLE001 - one complex must not end the scan
            return crashed(f"reading it ended in {type(error).__name__}: {' '.join(str(error).split())}")

    def key(self, candidate: Listed) -> str:
        """Digest of the rules and of the names and content of `candidate`'s files; names determine formats."""
        content = hashlib.blake2b(self.rules.digest.encode(), digest_size=16)
        for part, names in (("protein", candidate.proteins), ("ligand", candidate.ligands)):
            for name in names:
                content.update(f"\0{part}\0{name}\0".encode())
                try:
                    with open_file(self.root / name) as file:
                        content.update(hashlib.file_digest(file, "blake2b").digest())
                except OSError as error:
                    content.update(f"errno {error.errno}".encode())
        return content.hexdigest()

    def _read(self, candidate: Listed, key: str) -> Reading:
        """Read the best files. A file with a fault is replaced by the next of its kind, if there is one."""
        from compass.data.structures.graphs import build_graph, graph_load
        from compass.data.structures.reading import read_complex

        proteins, ligands = list(candidate.proteins), list(candidate.ligands)
        faults: list[str] = []
        lasting = True
        while True:
            try:
                complex_ = read_complex(
                    candidate.row.id,
                    self.root / proteins[0],
                    self.root / ligands[0],
                    pocket_radius=self.rules.pocket_radius,
                    max_atoms=self.rules.max_atoms,
                    rules=self.rules.structures,
                )
                break
            except StructureError as error:
                cause = error.__context__  # a file that the system could not open today may open tomorrow
                lasting &= not isinstance(cause, OSError) or isinstance(cause, gzip.BadGzipFile | FileNotFoundError)
                message = str(error).replace(f"{self.root}{os.sep}", "")
                at_fault = next(
                    (names for names in (ligands, proteins) if error.where == str(self.root / names[0])), []
                )
                if len(at_fault) < 2 or error.reason in NOT_A_FILES_FAULT:
                    outcome = ReadResult(
                        status="rejected", reason=str(error.reason), detail=message, notes=tuple(faults)
                    )
                    return Reading(key, outcome, lasting=lasting and not isinstance(cause, FileNotFoundError))
                del at_fault[0]
                faults.append(message)
        load_neighbour_list()
        outcome = ReadResult(
            status="ok",
            repairs=(*_repairs(candidate, proteins[0], ligands[0]), *complex_.repairs),
            protein=proteins[0],
            ligand=ligands[0],
            notes=(*faults, *self._missed(proteins[0]), *complex_.notes),
            sizes=graph_load(build_graph(complex_, self.rules.graph, 0.0)).sizes,
        )
        return Reading(key, outcome, PackedAtoms.of(complex_), lasting=lasting)

    def _missed(self, protein: str) -> tuple[str, ...]:
        radius = self.rules.pocket_radius
        if not _is_pocket(protein) or (radius is not None and radius <= POCKET_FILE_ANGSTROM):
            return ()
        asked = "the whole protein" if radius is None else f"all atoms within {radius:g} Å of the ligand"
        return (f"{protein}: a pocket file, although the rules ask for {asked}",)


def crashed(why: str) -> Reading:
    """The reading of a complex whose reader failed. The next scan tries it again."""
    return Reading("", ReadResult(status="rejected", reason=str(Reason.CRASHED), detail=why), lasting=False)


def _repairs(candidate: Listed, protein: str, ligand: str) -> tuple[str, ...]:
    repairs = []
    if protein != candidate.proteins[0]:
        repairs.append(POCKET_FOR_PROTEIN if _is_pocket(protein) else f"protein_from_{_extension(protein)}")
    if ligand != candidate.ligands[0]:
        repairs.append(f"ligand_from_{_extension(ligand)}")
    return tuple(repairs)


def _extension(name: str) -> str:
    return name.lower().removesuffix(".gz").rpartition(".")[2]


def _is_pocket(name: str) -> bool:
    return Path(name).name.partition(".")[0].lower().endswith("pocket")


def load_neighbour_list() -> None:
    """Import vesin without torch. vesin imports torch if it is installed: 190 MiB and a second per worker, unused here."""
    if "vesin" in sys.modules or "torch" in sys.modules:
        return
    sys.modules["torch"] = None  # type: ignore[assignment] # marks the module as absent
    try:
        import vesin  # noqa: F401
    finally:
        del sys.modules["torch"]
