"""The four stages of development, with one policy each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compass.stages.production import Production
from compass.stages.prototyping import Prototyping
from compass.stages.smoke_test import SmokeTest
from compass.stages.validation import Validation

if TYPE_CHECKING:
    from compass.records import Stage
    from compass.stages.policy import Policy

POLICIES: dict[Stage, Policy] = {
    policy.stage: policy for policy in (SmokeTest(), Prototyping(), Validation(), Production())
}
"""In the order in which they are shown; `compass.optimizer.DECIDED` says in which order they are certified."""
