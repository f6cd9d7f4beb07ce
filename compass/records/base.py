"""What every record is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from compass.errors import printable

Scalar = bool | int | float | str
Precision = Literal["fp32", "bf16", "fp16"]
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


V = TypeVar("V")
Pairs = Annotated[
    tuple[tuple[str, V], ...],
    BeforeValidator(lambda given: tuple(given.items()) if isinstance(given, Mapping) else given),
    PlainSerializer(dict, return_type=dict[str, V], when_used="json"),
]
"""A map that can be hashed, in the order of its keys' first appearance. In JSON it is an object; pairs are read too."""


Printable = Annotated[str, AfterValidator(printable)]
"""Text of other people's files that is shown: control characters are written as escapes."""


class Record(BaseModel):
    """A frozen value with a JSON form; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def digest(*parts: object) -> str:
    """Sixteen hex digits that change when any of `parts` (by its `repr`) changes."""
    return hashlib.blake2b("\x1f".join(map(repr, parts)).encode(), digest_size=8).hexdigest()
