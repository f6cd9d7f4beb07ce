"""The atom records of a protein file as columns, and how they group into residues."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_ELEMENT = -1
"""The file gives no element for an atom; 0 means that the file gives an unknown one."""


@dataclass(frozen=True, eq=False)
class AtomTable:
    """n atoms as a file gives them. All arrays have n rows; strings are stripped."""

    names: NDArray[np.str_]
    alternates: NDArray[np.str_]
    """Label of the alternate location; empty if there is none."""
    residue_names: NDArray[np.str_]
    chains: NDArray[np.str_]
    numbers: NDArray[np.str_]
    """Residue number and insertion code."""
    hetero: NDArray[np.bool_]
    """Whether the record is a HETATM."""
    segments: NDArray[np.int64]
    """Number of the stretch between TER records, or of the mmCIF entity instance."""
    models: NDArray[np.int64]
    elements: NDArray[np.int64]
    """Atomic numbers; 0 if unknown, `NO_ELEMENT` if not given."""
    two_letter: NDArray[np.bool_]
    """Whether the place of the name in its columns is that of a two-letter element."""
    occupancies: NDArray[np.float64]
    positions: NDArray[np.float64]
    """(n, 3) Å."""
    notes: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def where(self, keep: NDArray[Any]) -> Self:
        """The atoms that `keep` selects: a mask (n,) or indices."""
        return replace(self, **{name: getattr(self, name)[keep] for name in _COLUMNS})

    def noting(self, *notes: str, repairs: tuple[str, ...] = ()) -> Self:
        """The same atoms with more notes and repairs."""
        return replace(self, notes=(*self.notes, *notes), repairs=tuple(dict.fromkeys((*self.repairs, *repairs))))

    def runs(self, *, by_name: bool = True) -> NDArray[np.int64]:
        """(n,) number of each atom's residue: consecutive records with one model, segment, chain, number and, if asked, name."""
        columns = [self.models, self.segments, self.chains, self.numbers]
        if by_name:
            columns.append(self.residue_names)
        starts = np.ones(len(self), np.bool_)
        starts[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
        return np.cumsum(starts) - 1

    def residue_label(self, index: int) -> str:
        """The residue of an atom in words, e.g. `SER A 195`."""
        return " ".join(
            part for part in map(str, (self.residue_names[index], self.chains[index], self.numbers[index])) if part
        )


_COLUMNS = tuple(field.name for field in fields(AtomTable) if field.name not in {"notes", "repairs"})
