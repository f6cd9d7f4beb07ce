"""Compass finds training configurations for the machine at hand, and certifies that they run within its memory.

    import compass
    compass.scan("data/pdbbind")
    profile = compass.optimize("visnet", dataset="data/pdbbind", memory_limit="6GiB")
    results = compass.train(profile, "prototyping", epochs=20)

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
    from compass.api.estimator import time_estimator
    from compass.api.fitting import fit
    from compass.api.fleet import optimize_fleet
    from compass.api.looking import report, scan
    from compass.api.optimizing import estimate, optimize, verify
    from compass.api.training import predict, train
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
    "estimate",
    "fit",
    "load_profile",
    "optimize",
    "optimize_fleet",
    "predict",
    "report",
    "scan",
    "time_estimator",
    "train",
    "trainer_settings",
    "verify",
]

_HOMES = {
    "FollowPlan": "compass.integrations.lightning:FollowPlan",
    "OptimizerConfig": "compass.optimizer_config:OptimizerConfig",
    "Profile": "compass.profile:Profile",
    "Request": "compass.optimizer:Request",
    "estimate": "compass.api.optimizing:estimate",
    "fit": "compass.api.fitting:fit",
    "load_profile": "compass.profile:read_profile",
    "optimize": "compass.api.optimizing:optimize",
    "optimize_fleet": "compass.api.fleet:optimize_fleet",
    "predict": "compass.api.training:predict",
    "report": "compass.api.looking:report",
    "scan": "compass.api.looking:scan",
    "time_estimator": "compass.api.estimator:time_estimator",
    "train": "compass.api.training:train",
    "trainer_settings": "compass.integrations.settings:trainer_settings",
    "verify": "compass.api.optimizing:verify",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
