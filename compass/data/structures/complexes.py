"""A protein–ligand complex after reading. Importing this loads no parser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Complex:
    """A protein–ligand complex of n atoms, the protein's first."""

    name: str
    elements: NDArray[np.int64]
    """(n,) atomic numbers."""
    positions: NDArray[np.float32]
    """(n, 3) Å."""
    is_ligand: NDArray[np.bool_]
    """(n,)"""
    repairs: tuple[str, ...] = ()
    """Names of what was mended while reading."""
    notes: tuple[str, ...] = ()
    """Remarks on the files, e.g. the atoms that were dropped and why."""

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.elements)
