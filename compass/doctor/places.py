"""Checks of folders, of the dataset, and of an earlier profile."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from compass.data.scan.listing import Listing
from compass.data.scan.scan import list_source
from compass.doctor.checks import CheckResult, within
from compass.errors import InputError
from compass.optimizer_config import DatasetRules
from compass.profile import NewerProfileError, read_profile
from compass.units import GIB, MIB, format_bytes, format_count

LEAST_FREE_BYTES = 100 * MIB
"""A ledger, a log and a profile take some megabytes, a checkpoint ten."""
FEW_FREE_BYTES = 2 * GIB
"""A catalogue and packed graphs of 20,000 pockets take about 1.5 GiB."""
LISTING_S = 2.0
"""Seconds that listing a dataset may take: some 50,000 complexes on a local disk."""


def check_writable(check: str, folder: Path, fix: str) -> CheckResult:
    """Free space in `folder`, and whether a file can be written there. A folder that is not there yet could be made.

    Args:
        check: the name of the check.
        folder: the folder.
        fix: how the user names another one, as a sentence.
    """
    present = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        tempfile.TemporaryFile(dir=present).close()
        free = shutil.disk_usage(present).free
    except OSError as error:
        return CheckResult(check, "fail", f"{folder} cannot be written: {error.strerror or error}", fix)
    says = f"{format_bytes(free)} free in {folder}"
    if free < LEAST_FREE_BYTES:
        return CheckResult(check, "fail", says, f"Delete something there. {fix}")
    if free < FEW_FREE_BYTES:
        return CheckResult(check, "warn", f"{says}; 20,000 complexes take about {format_bytes(FEW_FREE_BYTES)}", fix)
    return CheckResult(check, "ok", says)


def check_dataset(source: Path, rules: DatasetRules, *, limit_s: float = LISTING_S) -> CheckResult:
    """Whether a dataset is there, and how many complexes it lists. One structure file is opened, and none is read.

    Args:
        source: a folder or a manifest.
        rules: names of files, and the index.
        limit_s: seconds after which the listing is left to `compass scan`.
    """
    try:
        listing = within(limit_s, lambda: list_source(source, rules))
    except InputError as error:
        return CheckResult("dataset", "fail", f"{error.where}: {error.got}; expected {error.expected}", error.fix)
    if listing is None:
        return CheckResult(
            "dataset", "ok", f"{source} can be read; `compass scan` counts it, which takes over {limit_s:g} s"
        )
    return _of_listing(source, listing)


def _of_listing(source: Path, listing: Listing) -> CheckResult:
    usable = [listed for listed in listing.complexes if listed.row.usable]
    n_labelled = sum(listed.row.label is not None for listed in usable)
    says = f"{source} lists {format_count(len(listing.complexes))} complexes"
    scan = f"`compass scan {source}` reports each of them."
    if not usable:
        return CheckResult("dataset", "fail", f"{says}, none with both of its files", scan)
    try:
        for name in (usable[0].proteins[0], usable[0].ligands[0]):
            (listing.root / name).open("rb").close()
    except OSError as error:
        return CheckResult(
            "dataset", "fail", f"{says}, but {name} cannot be read: {error.strerror}", "Check its permissions."
        )
    if not n_labelled:
        return CheckResult(
            "dataset",
            "warn",
            f"{says}, none with a label",
            "Labels are needed for training: name the index with --index, or fill the manifest's column `label`.",
        )
    says += f", {format_count(n_labelled)} with a label"
    n_rejected = len(listing.complexes) - len(usable)
    if n_rejected:
        return CheckResult("dataset", "warn", f"{says}; {format_count(n_rejected)} lack a file", scan)
    return CheckResult("dataset", "ok", says)


def check_profile(path: Path, here: Mapping[str, tuple[str, ...]], *, named: bool = False) -> CheckResult:
    """An earlier profile: whether it can be read, and whether it was measured on this machine, as far as that is cheap to tell.

    Args:
        path: the profile.
        here: name → values that hold on this machine, for `device`, `torch` and names of the fingerprint's versions.
        named: whether the user named it, so that it should be there.
    """
    if not path.exists() and named:
        return CheckResult("profile", "fail", f"there is no {path}", "Correct its name, or leave it out.")
    if not path.exists():
        return CheckResult("profile", "ok", f"no {path} yet", "`compass optimize` writes it.")
    try:
        profile = read_profile(path)
    except NewerProfileError as error:
        return CheckResult("profile", "fail", f"{error.where}: {error.got}; expected {error.expected}", error.fix)
    except InputError as error:
        return CheckResult("profile", "warn", f"{error.where}: {error.got}; expected {error.expected}", error.fix)
    then = {
        "device": profile.fingerprint.device,
        "torch": profile.fingerprint.torch,
        **dict(profile.fingerprint.versions),
    }
    changed = [
        f"{name} {then[name]}, here {' or '.join(values)}"
        for name, values in here.items()
        if name in then and then[name] not in values
    ]
    says = f"{path} has plans for {', '.join(profile.plans) or 'no stage'}"
    if changed:
        return CheckResult(
            "profile",
            "warn",
            f"{says}, measured on something else: {'; '.join(changed)}",
            "`compass verify` checks whether they hold here.",
        )
    return CheckResult("profile", "ok", says)
