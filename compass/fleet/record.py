"""`fleet.json`: the kinds of a fleet, each with its profile's file, price and power, or the reason why it has no profile."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path

from pydantic import ValidationError

from compass.checksum import json_with_checksum, json_without_checksum
from compass.errors import InputError, expected_value
from compass.files import read_record, write_text
from compass.profile import Profile, read_profile
from compass.records import Record

FLEET_FOLDER = Path("fleet")
"""Where `compass fleet optimize` writes, and `compass fleet show` reads, unless told otherwise."""
FLEET_NAME = "fleet.json"


class KindRecord(Record):
    """One kind of node."""

    name: str
    device: str
    """As the vendor calls it; of several nodes in Slurm, their partition."""
    nodes: tuple[str, ...]
    """By name, the measured one first; a device beside it where a node has several that differ."""
    versions: dict[str, str] = {}
    """Of Compass, Python, torch …"""
    price_per_hour: float | None = None
    power_w: float | None = None
    profile: str = ""
    """File of its profile in the same folder; empty: it has none."""
    failure: str = ""
    """Why it has none, in a sentence."""
    notes: tuple[str, ...] = ()
    """Slow and lost nodes, a sentence each."""


class FleetRecord(Record):
    """The result of `compass fleet optimize`."""

    compass_version: str
    created: str
    """UTC, ISO 8601."""
    engine: str
    """`local`, an address of Ray, or `slurm`."""
    currency: str = ""
    priced_on: str = ""
    kinds: tuple[KindRecord, ...]


def write_fleet(record: FleetRecord, folder: Path) -> None:
    """Write `record` to its file in `folder`, whole.

    Raises:
        InputError: the folder cannot be written to.
    """
    write_text(json_with_checksum(record.model_dump(mode="json")), folder / FLEET_NAME)


def read_fleet(folder: Path) -> tuple[FleetRecord, dict[str, Profile]]:
    """The fleet in `folder`, and the profiles of its kinds by name.

    Raises:
        InputError: there is none, or a file of it cannot be used.
    """
    path = folder / FLEET_NAME
    fix = "Run `compass fleet optimize` to write it."
    try:
        record = FleetRecord.model_validate(json.loads(json_without_checksum(read_record(path).decode("utf-8"))))
    except OSError as error:
        raise InputError(f"fleet {path}", got=error.strerror or str(error), expected=FLEET_NAME, fix=fix) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        got = "nothing" if first["type"] == "missing" else reprlib.repr(first["input"])
        raise InputError(f"fleet {path}, {field}", got=got, expected=expected_value(first), fix=fix) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"fleet {path}", got=f"text that cannot be used: {error}", expected="what Compass wrote", fix=fix
        ) from error
    profiles = {kind.name: read_profile(folder / Path(kind.profile).name) for kind in record.kinds if kind.profile}
    return record, profiles
