"""File names: which part of a complex a file holds, and which complex it belongs to."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

from compass.optimizer_config import DatasetRules

PROTEIN_EXTENSIONS = (".pdb", ".ent", ".cif", ".mmcif")
"""In the order in which they are tried."""
LIGAND_EXTENSIONS = (".sdf", ".sd", ".mol", ".mol2")
"""In the order in which they are tried: SDF before MOL2, because MOL2's atom types are ambiguous."""

Part = Literal["protein", "pocket", "ligand"]


@dataclass(frozen=True)
class PartNames:
    """The words that end the names of a complex's files, best first: `1abc_protein.pdb` ends with `protein`."""

    proteins: tuple[str, ...]
    pockets: tuple[str, ...]
    ligands: tuple[str, ...]

    @classmethod
    def of(cls, rules: DatasetRules) -> Self:
        """Those of `rules`."""
        return cls(rules.protein_suffixes, rules.pocket_suffixes, rules.ligand_suffixes)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # The longest first: 1abc_protein_processed is not the processed file of 1abc_protein.
        words = sorted((*self.proteins, *self.pockets, *self.ligands), key=len, reverse=True)
        return re.compile(rf"(?:(.+)[_\-. ])?({'|'.join(map(re.escape, words))})", re.IGNORECASE)

    def split(self, name: str) -> tuple[str, Part, int] | None:
        """(code, part, rank of its word) of a file; None if its name or extension is no part's. The code may be empty."""
        stem, extension = split_name(name)
        match = self._pattern.fullmatch(stem)
        if match is None:
            return None
        word = match[2].lower()
        for part, words, extensions in (
            ("protein", self.proteins, PROTEIN_EXTENSIONS),
            ("pocket", self.pockets, PROTEIN_EXTENSIONS),
            ("ligand", self.ligands, LIGAND_EXTENSIONS),
        ):
            lower = [known.lower() for known in words]
            if word in lower and extension in extensions:
                return match[1] or "", part, lower.index(word)  # type: ignore[return-value] # a literal of the loop
        return None

    def is_named(self, name: str) -> bool:
        """Whether the name, whatever its extension, ends with one of the words."""
        return self._pattern.fullmatch(split_name(name)[0]) is not None


def split_name(name: str) -> tuple[str, str]:
    """(stem, extension in lower case without a final .gz)."""
    plain = name[:-3] if name.lower().endswith(".gz") else name
    stem, dot, extension = plain.rpartition(".")
    return (stem, f".{extension.lower()}") if dot else (plain, "")


def is_structure(name: str) -> bool:
    """Whether the extension is that of a protein or ligand file."""
    return split_name(name)[1] in (*PROTEIN_EXTENSIONS, *LIGAND_EXTENSIONS)


def is_text(name: str) -> bool:
    """Whether a name can be shown and stored: no control characters, and no bytes that are no text. Any blank will do."""
    return name.isprintable() or not any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in name)


def ranked(names: Sequence[str], extensions: Sequence[str]) -> list[str]:
    """`names` by extension, plain before gzipped, then by alphabet."""
    return sorted(names, key=lambda name: (extensions.index(split_name(name)[1]), name.lower().endswith(".gz"), name))
