"""A plan as text for other programs: JSON, YAML, shell variables, a Hydra config group, or a batch script for Slurm."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from compass.integrations.settings import settings_of
from compass.integrations.slurm import slurm_script
from compass.integrations.torchrun import torchrun_script
from compass.profile import Profile
from compass.records import Stage


def as_json(settings: Mapping[str, Any]) -> str:
    """Indented JSON, keys in their order."""
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Block-style YAML. Any YAML reader reads the same values back."""
    import yaml

    return str(yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))


def as_hydra(settings: Mapping[str, Any]) -> str:
    """A config group: save it as `conf/compass/STAGE.yaml`, and choose it with `compass=STAGE`."""
    return "# @package compass\n" + as_yaml(settings)


def as_env(settings: Mapping[str, Any]) -> str:
    """`export` lines for a shell: `COMPASS_…` for every setting, and the variables of the runtime as they are.

    Variables that another plan may have set, and this one does not need, are unset.
    """
    own = {key: value for key, value in settings.items() if key != "environment"}
    given = {f"COMPASS_{name}": _word(value) for name, value in _flat(own)} | settings.get("environment", {})
    lines = [f"export {name}={shlex.quote(value)}" for name, value in given.items()]
    return "".join(
        f"{line}\n" for line in [f"unset {' '.join(name for name in OPTIONAL if name not in given)}", *lines]
    )


OPTIONAL = (
    "COMPASS_BATCH_BUDGET_BYTES",
    "COMPASS_EPOCH_S",
    "COMPASS_TRAINING_S",
    "OMP_WAIT_POLICY",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "GLIBC_TUNABLES",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
)
"""Variables that only some plans set."""

SETTINGS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "json": as_json,
    "yaml": as_yaml,
    "env": as_env,
    "hydra": as_hydra,
}
FORMATS = (*SETTINGS, "slurm", "torchrun")


def exported(profile: Profile, stage: Stage, form: str, n_seeds: int = 1) -> str:
    """The plan of `stage` in one of `FORMATS`; a script for Slurm trains with so many seeds.

    Raises:
        InputError: there is no such plan.
    """
    if form == "slurm":
        return slurm_script(profile, stage, n_seeds)
    return torchrun_script(profile, stage) if form == "torchrun" else SETTINGS[form](settings_of(profile, stage))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        name = f"{prefix}{re.sub(r'[^A-Z0-9]+', '_', key.upper())}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}_")
        else:
            yield name, value


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
