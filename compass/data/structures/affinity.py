"""Binding data in the notation of the PDBbind index."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast

from compass.errors import InputError

Kind = Literal["Kd", "Ki", "IC50"]
Relation = Literal["=", "<", ">", "~"]

_MOLAR_PER_UNIT = {"fM": 1e-15, "pM": 1e-12, "nM": 1e-9, "uM": 1e-6, "µM": 1e-6, "μM": 1e-6, "mM": 1e-3, "M": 1.0}
_ENTRY = re.compile(
    r"\s*(Kd|Ki|IC50)\s*(=~|~=|<~|>~|<=|>=|=<|=>|=|<|>|~|≤|≥|≈)\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)\s*([fpnuµμm]?M)\s*"
)


@dataclass(frozen=True)
class Affinity:
    """A measured binding affinity."""

    kind: Kind
    relation: Relation
    """`<` and `>` are bounds, `~` is an estimate."""
    molar: float
    """mol/L, above zero."""

    @property
    def pk(self) -> float:
        """−log10 of the molar value, the training label."""
        return -math.log10(self.molar)


def parse_affinity(text: str, *, where: str) -> Affinity:
    """The affinity in an entry such as `Kd=49uM`, `IC50<10mM` or `Ki~5pM`.

    `<=` and `>=` are read as `<` and `>`, `=~` as `~`.

    Args:
        text: the entry.
        where: its field or file, for the error.

    Raises:
        InputError: not such an entry, or a value of zero.
    """
    match = _ENTRY.fullmatch(text)
    molar = float(match[3]) * _MOLAR_PER_UNIT[match[4]] if match else 0.0
    if match is None or not 0.0 < molar < math.inf:
        raise InputError(
            where,
            got=repr(text),
            expected="Kd, Ki or IC50, one of = < > ~, a number above zero and a unit from fM to M",
            fix="Write it as the PDBbind index does, for example Kd=49uM.",
        )
    return Affinity(cast("Kind", match[1]), _relation(match[2]), molar)


def _relation(sign: str) -> Relation:
    """The relation of a sign of one or two characters: a bound before `about`, `about` before `equal`."""
    plain = sign.replace("≤", "<").replace("≥", ">").replace("≈", "~")
    return cast("Relation", next(relation for relation in "<>~=" if relation in plain))
