"""Which workload's code may run. A profile or a checkpoint from someone else may name any file or module of this machine.

Code runs if the user named it, now or in an earlier command on this account. Built-in and installed families need no trust.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from compass.errors import InputError
from compass.files import MODEL_SUFFIX
from compass.planning.request import absolute_source
from compass.probe.store import default_cache

TRUSTED = "trusted_workloads.txt"
"""In the user's cache folder: a source to a line."""
log = logging.getLogger(__name__)
_of_this_process: set[str] = set()
"""What was named in this process."""


def remember_workload(source: str) -> None:
    """Note that the user named this workload, if it is code; without a writable cache folder it is not remembered."""
    source = absolute_source(source)
    if not _is_code(source) or source in _remembered():
        return
    _of_this_process.add(source)
    try:
        path = default_cache() / TRUSTED
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{source}\n")
    except (OSError, InputError) as error:
        log.warning(
            "the workload %s is trusted by this process alone, because its name cannot be kept: %s", source, error
        )


def check_trusted(source: str, *, named: str | None = None, trust: bool = False) -> None:
    """Refuse to run code that only a profile or a checkpoint names.

    Args:
        source: the workload that it names.
        named: the workload that the user names; None: none.
        trust: whether the user trusts it without naming it.

    Raises:
        InputError: the user has never named it, or names another one.
    """
    if named is not None and absolute_source(named) != source:
        raise InputError(
            "--workload",
            got=named,
            expected=f"{source}, with which the plan was made",
            fix="Name that one, or plan for the other with `compass optimize`.",
        )
    if trust or named is not None:
        remember_workload(source)
    elif _is_code(source) and source not in _remembered():
        raise InputError(
            f"workload {source}",
            got="code that you have not named yourself: the profile or checkpoint that names it may be someone else's",
            expected="code that you trust",
            fix=f"Look at it, then pass --workload {source}, or --trust.",
        )


def _is_code(source: str) -> bool:
    """Whether it is a file or a module rather than a family's name."""
    return ":" in source or source.endswith(MODEL_SUFFIX)


def _remembered() -> set[str]:
    with suppress(OSError, UnicodeDecodeError, InputError):
        return _of_this_process | set((default_cache() / TRUSTED).read_text(encoding="utf-8").splitlines())
    return _of_this_process
