"""SkyPilot's door: how long a stage's training takes on the resources that SkyPilot considers.

SkyPilot's optimizer takes an hour for every task unless `Task.set_time_estimator` is called. It weighs price against time, so
wrong times choose the wrong cloud. This module does not import SkyPilot.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from compass.errors import InputError
from compass.profile import Profile
from compass.records import Stage
from compass.units import GIB

NEARLY_SHARE = 0.15
"""A card has the memory in its name if its driver reports within this share of it: some is reserved."""
UNNAMED_GB = {"A100": 40, "V100": 16, "P100": 16}
"""Cards that come with several sizes of memory, of which SkyPilot's plain name is one."""


class SkyResources(Protocol):
    """The part of `sky.Resources` that is read."""

    @property
    def accelerators(self) -> Mapping[str, float] | None:
        """Cards by name, and how many; None without any."""
        ...


def make_time_estimator(profiles: Sequence[Profile], stage: Stage) -> Callable[[SkyResources], int]:
    """The function for `Task.set_time_estimator`: seconds of the training of `stage`, by the profile of the card that is asked about.

    Raises:
        InputError: a profile has no plan of `stage`. The function itself raises it for a card that no profile is of, and for more
            than one card: nothing was measured there. Name only measured cards in `Task.set_resources`.
    """
    times = [(profile, profile.plan(stage).training_s or 0.0) for profile in profiles]

    def seconds(resources: SkyResources) -> int:
        wanted = dict(resources.accelerators or {})
        for profile, training_s in times:
            if is_on(profile, wanted):
                return math.ceil(training_s)
        there = ", ".join(profile.hardware.name for profile, _ in times) or "none"
        raise InputError(
            "resources",
            got=", ".join(f"{n:g} × {name}" for name, n in wanted.items()) or "no accelerator",
            expected=f"one card that a profile is of: {there}",
            fix="Name measured cards alone in Task.set_resources, or plan on this one and pass its profile too.",
        )

    return seconds


def is_on(profile: Profile, accelerators: Mapping[str, Any]) -> bool:
    """Whether `profile` is of a machine with these accelerators. Without any, it is of a CPU; which one is not compared."""
    if not accelerators:
        return profile.hardware.on_host
    if len(accelerators) > 1 or profile.hardware.on_host:
        return False
    ((name, count),) = accelerators.items()
    return count == 1 and is_card(name, profile.hardware.name, profile.hardware.total_bytes)


def is_card(sky_name: str, device: str, total_bytes: int) -> bool:
    """Whether SkyPilot's name (`A100-80GB`, `RTX4090`) is that of the vendor's `device`, which has `total_bytes`."""
    base, _, size = sky_name.upper().partition("-")
    if size and not re.fullmatch(r"\d+GB", size):  # L4-…, or a variant such as A100-SXM: part of the name
        base, size = sky_name.upper().replace("-", ""), ""
    n_gb = int(size.removesuffix("GB")) if size else UNNAMED_GB.get(base)
    if n_gb is not None and abs(total_bytes / GIB - n_gb) > NEARLY_SHARE * n_gb:
        return False
    words = re.findall(r"[A-Z0-9]+", device.upper())
    runs = {"".join(words[start:end]) for start in range(len(words)) for end in range(start + 1, len(words) + 1)}
    return base in runs
