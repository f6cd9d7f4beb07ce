r"""The ledger on disk: one checksummed line a probe, the truth that survives a cut at any byte.

A line is `<checksum> <fingerprint key> <spec JSON>\t<outcome JSON>`. On opening, everything from the first damaged line on
is cut off, so that what follows is appended to a good end.
"""

from __future__ import annotations

import errno
import os
import zlib
from io import BytesIO
from pathlib import Path

from compass.errors import InputError
from compass.records import Outcome, ProbeSpec, Status

REUSED = (Status.OK, Status.OUT_OF_MEMORY)
"""Only what says something lasting is believed a second time; a hang or a crash is tried again."""


class Store:
    """Finished probes, kept by fingerprint and question."""

    def __init__(self, path: Path) -> None:
        """Open `path`, creating it if need be.

        Raises:
            InputError: it cannot be written.
        """
        self._known: dict[tuple[str, str], tuple[ProbeSpec, Outcome]] = {}
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: a line is there or not when add() returns, and nothing is left to write on closing.
            self._file = path.open("ab", buffering=0)
            self._file.truncate(self._take_in(path.read_bytes()))
        except OSError as error:
            raise _unwritable(path, error) from error

    def find(self, fingerprint: str, spec: ProbeSpec) -> Outcome | None:
        """The outcome of the same question under the same fingerprint."""
        _, outcome = self._known.get((fingerprint, spec.key), (spec, None))
        return outcome if outcome is not None and outcome.status in REUSED else None

    def under(self, fingerprint: str) -> list[tuple[ProbeSpec, Outcome]]:
        """Every probe made under `fingerprint`, each question with its last answer."""
        return [known for (owner, _), known in self._known.items() if owner == fingerprint]

    def add(self, fingerprint: str, spec: ProbeSpec, outcome: Outcome) -> None:
        """Keep `outcome`, on disk before this returns.

        Raises:
            InputError: it cannot be written any more.
        """
        body = f"{fingerprint} {spec.model_dump_json()}\t{outcome.model_dump_json()}".encode()
        line = b"%08x %s\n" % (zlib.crc32(body), body)
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - the system will say no more
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(self._path, error) from error
        self._known[fingerprint, spec.key] = spec, outcome

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _take_in(self, content: bytes) -> int:
        """Remember the good lines; returns where they end."""
        good = 0
        for line in BytesIO(content):
            checksum, _, body = line.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(body):
                break
            try:
                fingerprint, _, rest = body.decode().partition(" ")
                question, _, answer = rest.partition("\t")
                spec, outcome = ProbeSpec.model_validate_json(question), Outcome.model_validate_json(answer)
            except ValueError:  # an older form, of no use now
                spec = None
            if spec is not None:
                self._known[fingerprint, spec.key] = spec, outcome
            good += len(line)
        return good


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"probe store {path}", got=error.strerror or str(error), expected="a file in a writable folder",
                      fix="Choose another --cache.")  # fmt: skip
