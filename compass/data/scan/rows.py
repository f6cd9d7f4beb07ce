"""What a scan finds of each complex."""

from __future__ import annotations

from typing import Literal

from compass.data.structures.affinity import Relation
from compass.records import Record


class Label(Record):
    """A complex's binding affinity as a network is trained on it, and how sure it is."""

    pk: float
    """−log10 of the molar value."""
    relation: Relation = "="
    """How the true pK stands to `pk`: equal, below, above or about. `Kd<10mM` says that pK is above 2."""
    kind: Literal["Kd", "Ki", "IC50"] | None = None
    """What was measured; None if the source gave a bare pK."""


class Row(Record):
    """One complex: usable as it is, usable after repairs, or not, and why."""

    id: str
    status: Literal["ok", "repaired", "rejected"]
    reason: str = ""
    """Why it was rejected: a `Reason` of structure files, or what was wrong with the entry. Stable, to count by."""
    detail: str = ""
    """The reason for a person: which file, what it held, what was expected, what to do."""
    repairs: tuple[str, ...] = ()
    """What was done to make it usable, e.g. `ligand_from_mol2`. Stable, to count by."""
    notes: tuple[str, ...] = ()
    """What a person should know of a usable complex: a label that does not parse, say."""
    protein: str = ""
    """The file that was read."""
    ligand: str = ""
    """The file that was read."""
    label: Label | None = None
    resolution: float | None = None
    """Å; None for NMR or unknown."""
    year: int | None = None
    split: str | None = None
    """The part of the data that a manifest puts it in: `train`, `val` or `test`."""
    sizes: tuple[tuple[str, float], ...] = ()
    """(feature, amount) of its graph; empty if rejected."""
    key: str = ""
    """Digest of the files' content and of the rules they were read by."""

    @property
    def usable(self) -> bool:
        """Whether it can be trained on, a label provided."""
        return self.status != "rejected"
