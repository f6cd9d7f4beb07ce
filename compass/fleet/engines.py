"""The engine of an address."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import closing, contextmanager

from compass.errors import InputError
from compass.fleet.engine import FleetEngine
from compass.fleet.in_process import InProcessEngine

LOCAL = "local"
"""This machine, for which no other program is needed."""


@contextmanager
def engine_at(address: str, wait_s: float) -> Iterator[FleetEngine]:
    """The engine that `address` names: `local`, `auto`, `ray://HOST:PORT` or `HOST:PORT`. It ends with the block.

    Raises:
        InputError: it names none, Ray is not installed, or no cluster answers within `wait_s`.
    """
    if address == LOCAL:
        yield InProcessEngine.here()
        return
    require_extra("ray", "fleet", f"--address {address}")
    from compass.fleet.ray_engine import connect_to_ray

    with closing(connect_to_ray(address, wait_s)) as engine:
        yield engine


def require_extra(package: str, extra: str, option: str) -> None:
    """Refuse an option whose package is not installed.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(
            option,
            got=f"no package {package}",
            expected=f"Compass with the extra `{extra}`",
            fix=f"Install it: pip install 'compass-optimizer[{extra}]'.",
        )
