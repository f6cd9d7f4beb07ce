"""What every record is made of."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict

Scalar = bool | int | float | str
Precision = Literal["fp32", "bf16"]
Matmul = Literal["full", "reduced"]
Stage = Literal["smoke_test", "prototyping", "validation", "production"]
STAGE_QUESTIONS: dict[Stage, str] = {
    "smoke_test": "Does it run at all?",
    "prototyping": "Which ideas are worth more?",
    "validation": "Does the finding hold when the model grows?",
    "production": "How good can it get?",
}
"""The question that each stage answers."""
STAGES: tuple[Stage, ...] = tuple(STAGE_QUESTIONS)


class Record(BaseModel):
    """A frozen value with a JSON form; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def digest(*parts: object) -> str:
    """Sixteen hex digits that change when any of `parts` (by its `repr`) changes."""
    return hashlib.blake2b("\x1f".join(map(repr, parts)).encode(), digest_size=8).hexdigest()
