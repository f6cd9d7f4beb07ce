"""One row for each complex of a scan."""

from __future__ import annotations

from typing import Literal

from compass.data.structures.affinity import Relation
from compass.records import Record
from compass.records.base import Printable


class Label(Record):
    """A complex's binding affinity as a training label: an exact value, a bound or an estimate."""

    pk: float
    """−log10 of the molar value."""
    relation: Relation = "="
    """Relation of the true pK to `pk`: equal, below, above or about. `Kd<10mM` means a pK above 2."""
    kind: Literal["Kd", "Ki", "IC50"] | None = None
    """The measured quantity; None if the source gave a bare pK."""


class Row(Record):
    """One complex: usable, usable after repairs, or rejected with a reason."""

    id: Printable
    status: Literal["ok", "repaired", "rejected"]
    reason: str = ""
    """Why it was rejected: a value of `Reason`. The values are stable, so that they can be counted."""
    detail: Printable = ""
    """The reason in words: the file, its content, the expected content and a remedy."""
    repairs: tuple[str, ...] = ()
    """Repairs that made it usable, e.g. `ligand_from_mol2`. The values are stable, so that they can be counted."""
    notes: tuple[Printable, ...] = ()
    """Remarks on the complex, e.g. that its label could not be read."""
    protein: str = ""
    """The protein file that was read."""
    ligand: str = ""
    """The ligand file that was read."""
    label: Label | None = None
    resolution: float | None = None
    """Å; None for NMR or unknown."""
    year: int | None = None
    split: str | None = None
    """`train`, `val` or `test`, if the manifest has a split."""
    sizes: tuple[tuple[str, float], ...] = ()
    """(feature, amount) of its graph; empty if rejected."""
    key: str = ""
    """Digest of the files' content and of the reading rules."""

    @property
    def usable(self) -> bool:
        """Whether it can be trained on, if it has a label."""
        return self.status != "rejected"
