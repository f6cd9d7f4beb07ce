"""One complex: reading it from the files it has, and what that gave. This is what a scan's worker processes do."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from compass.data.scan.listing import POCKET_FOR_PROTEIN, Candidate
from compass.data.scan.rows import Row
from compass.data.structures.structure_file import Reason, StructureError
from compass.optimizer_config import GraphRules, OptimizerConfig, StructureRules
from compass.records import Record, digest

if TYPE_CHECKING:
    from compass.data.structures.complexes import Complex

VERSION = 2
"""Of the reading: to be raised when the same files and rules give something else than before."""
POCKET_FILE_ANGSTROM = 10.0
"""How far PDBbind's pocket files reach from the ligand."""
NOT_A_FILES_FAULT = {Reason.TOO_MANY_ATOMS, Reason.EMPTY_POCKET}
"""Another file of the same complex would not help, or would mean something else."""


class Outcome(Record):
    """What the files of a complex gave; the part of its row that depends on nothing else."""

    status: Literal["ok", "repaired", "rejected"]
    reason: str = ""
    detail: str = ""
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    protein: str = ""
    ligand: str = ""
    sizes: tuple[tuple[str, float], ...] = ()

    def completes(self, row: Row, key: str) -> Row:
        """`row` with what its files gave."""
        repairs = tuple(dict.fromkeys((*row.repairs, *self.repairs)))
        status = "repaired" if self.status == "ok" and repairs else self.status
        notes = (*row.notes, *self.notes)
        return row.model_copy(update={**dict(self), "status": status, "repairs": repairs, "notes": notes, "key": key})


@dataclass(frozen=True)
class Atoms:
    """The atoms of a complex as bytes: n elements (uint8), n · 3 positions (float32, Å), n marks of the ligand (uint8)."""

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
    """What looking at one complex gave."""

    key: str
    """Digest of its files and the rules. Readings with the same key are the same. Empty if it crashed."""
    outcome: Outcome | None = None
    """None: the key was known, nothing was read."""
    atoms: Atoms | None = None
    """None if rejected or not read."""
    lasting: bool = True
    """Whether it would come out the same the next time: not if the system could not open a file, or something crashed."""


@dataclass(frozen=True)
class ReadingRules:
    """All that decides what becomes of a complex's files."""

    structures: StructureRules
    graph: GraphRules
    pocket_radius: float | None
    max_atoms: int

    @classmethod
    def of(cls, config: OptimizerConfig) -> Self:
        """Those of `config`."""
        return cls(config.structures, config.graph, config.dataset.pocket_radius, config.dataset.max_atoms)

    @property
    def digest(self) -> str:
        """Sixteen hex digits that change with any rule."""
        return digest(VERSION, self)


@dataclass(frozen=True)
class Reader:
    """Reads complexes; travels to a worker once, with the keys that need no reading."""

    root: Path
    rules: ReadingRules
    known: frozenset[str] = frozenset()

    def __call__(self, candidate: Candidate) -> Reading:
        """What `candidate`'s files give. Whatever is wrong with them is in the outcome."""
        try:
            key = self.key(candidate)
            return Reading(key) if key in self.known else self._read(candidate, key)
        except Exception as error:  # noqa: BLE001 - one complex must not cost the others
            return crashed(f"reading it ended in {type(error).__name__}: {' '.join(str(error).split())}")

    def key(self, candidate: Candidate) -> str:
        """Digest of the rules, of the names of `candidate`'s files, which say their format, and of their content."""
        content = hashlib.blake2b(self.rules.digest.encode(), digest_size=16)
        for part, names in (("protein", candidate.proteins), ("ligand", candidate.ligands)):
            for name in names:
                content.update(f"\0{part}\0{name}\0".encode())
                try:
                    with (self.root / name).open("rb") as file:
                        content.update(hashlib.file_digest(file, "blake2b").digest())
                except OSError as error:
                    content.update(f"errno {error.errno}".encode())
        return content.hexdigest()

    def _read(self, candidate: Candidate, key: str) -> Reading:
        """Reads the best files. One that has a fault gives way to the next of its kind, if there is one."""
        from compass.data.structures.graphs import build_graph, graph_load
        from compass.data.structures.reading import read_complex

        proteins, ligands = list(candidate.proteins), list(candidate.ligands)
        faults: list[str] = []
        lasting = True
        while True:
            try:
                complex_ = read_complex(
                    candidate.row.id, self.root / proteins[0], self.root / ligands[0],
                    pocket_radius=self.rules.pocket_radius, max_atoms=self.rules.max_atoms, rules=self.rules.structures,
                )  # fmt: skip
                break
            except StructureError as error:
                cause = error.__context__  # what the system would not open today, it may tomorrow
                lasting &= not isinstance(cause, OSError) or isinstance(cause, gzip.BadGzipFile | FileNotFoundError)
                told = str(error).replace(f"{self.root}{os.sep}", "")
                at_fault = next(
                    (names for names in (ligands, proteins) if error.where == str(self.root / names[0])), []
                )
                if len(at_fault) < 2 or error.reason in NOT_A_FILES_FAULT:
                    outcome = Outcome(status="rejected", reason=str(error.reason), detail=told, notes=tuple(faults))
                    return Reading(key, outcome, lasting=lasting and not isinstance(cause, FileNotFoundError))
                del at_fault[0]
                faults.append(told)
        load_neighbour_list()
        outcome = Outcome(
            status="ok", repairs=_repairs(candidate, proteins[0], ligands[0]), protein=proteins[0], ligand=ligands[0],
            notes=(*faults, *self._missed(proteins[0])), sizes=graph_load(build_graph(complex_, self.rules.graph, 0.0)).sizes,
        )  # fmt: skip
        return Reading(key, outcome, Atoms.of(complex_), lasting=lasting)

    def _missed(self, protein: str) -> tuple[str, ...]:
        radius = self.rules.pocket_radius
        if not _is_pocket(protein) or (radius is not None and radius <= POCKET_FILE_ANGSTROM):
            return ()
        asked = "the whole protein" if radius is None else f"all within {radius:g} Å of the ligand"
        return (f"{protein}: a pocket file, where {asked} was asked for",)


def crashed(why: str) -> Reading:
    """The reading of a complex that brought something down. It is tried again in the next scan."""
    return Reading("", Outcome(status="rejected", reason=str(Reason.CRASHED), detail=why), lasting=False)


def _repairs(candidate: Candidate, protein: str, ligand: str) -> tuple[str, ...]:
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
    """Loads vesin without torch, which it takes where it finds it: 190 MiB and a second in every worker, for nothing."""
    if "vesin" in sys.modules or "torch" in sys.modules:
        return
    sys.modules["torch"] = None  # type: ignore[assignment] # Python's way to say that there is no such module
    try:
        import vesin  # noqa: F401
    finally:
        del sys.modules["torch"]
