"""Compass finds training configurations for the machine at hand, and certifies that they run within its memory.

    import compass
    profile = compass.optimize("visnet", dataset_size=19_000)

The names in `__all__` are public, as are the settings in `compass.optimizer_config`, the records in `compass.records`,
`compass.batching`, and the interfaces that a workload or a runner implements: `compass.workloads.protocol` and
`compass.probe.runner`. All other modules are private and may change in any release.

The names are imported at their first use, so that `import compass` loads no other module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from compass.version import __version__

if TYPE_CHECKING:
    from compass.integrations.call import optimize
    from compass.integrations.lightning import FollowPlan
    from compass.integrations.settings import trainer_settings
    from compass.optimizer import Request
    from compass.optimizer_config import OptimizerConfig
    from compass.profile import Profile
    from compass.profile import read_profile as load_profile

__all__ = [
    "FollowPlan",
    "OptimizerConfig",
    "Profile",
    "Request",
    "__version__",
    "load_profile",
    "optimize",
    "trainer_settings",
]

_HOMES = {
    "FollowPlan": "compass.integrations.lightning:FollowPlan",
    "OptimizerConfig": "compass.optimizer_config:OptimizerConfig",
    "Profile": "compass.profile:Profile",
    "Request": "compass.optimizer:Request",
    "load_profile": "compass.profile:read_profile",
    "optimize": "compass.integrations.call:optimize",
    "trainer_settings": "compass.integrations.settings:trainer_settings",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
