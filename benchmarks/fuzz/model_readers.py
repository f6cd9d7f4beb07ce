"""The readers of other people's models: the file of a model that `compass.fit` wrote, and the names of workloads in a profile.

Both can run code. A damaged file runs none and gives no model; a name that only a profile names runs none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.fuzz.changes import RAW, any_of, text_change, whole, wide
from benchmarks.fuzz.judging import FuzzedReader
from compass.files import MODEL_SUFFIX
from compass.optimizer_config import OptimizerConfig
from compass.planning.trust import check_trusted
from compass.workloads.model_file import read_model
from compass.workloads.registry import load_workload

_TRACE = Path("code-ran")
_FILE = Path(f"x{MODEL_SUFFIX}")
_MODULE = f"open({str(_TRACE)!r}, 'w').close()\n\ndef make():\n    raise OSError\n"
_NAMES = [b"x.model.pkl", b"./x.model.pkl", b"mine.py:make", b"mine:make", b"x.model.pkl:make", b"other"]


class Payload:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        """What its pickle calls."""
        return Path.touch, (_TRACE,)


def model_readers(model: bytes, payload: bytes) -> Iterator[FuzzedReader]:
    """The readers, given the file of a model and that of a `Payload`."""
    good = (model, payload)

    def of_bytes(data: bytes) -> Any:
        _FILE.write_bytes(data)
        with _no_code_may_run(but=data in good):
            return read_model(_FILE)

    bad = [
        whole(model),
        whole(b""),
        whole(b"\0" * 100_000),
        wide(b"\x80\x04", b"("),
        whole(b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f."),
    ]
    yield FuzzedReader("model", good, of_bytes, any_of(*RAW), _undamaged(good), special=bad, path=_FILE,
                       read_place=lambda: read_model(_FILE), weight=0.4)  # fmt: skip

    def of_name(data: bytes) -> Any:
        _FILE.write_bytes(payload)
        Path("mine.py").write_text(_MODULE, encoding="utf-8")
        source = data.decode("utf-8", "surrogateescape")
        with _no_code_may_run(but=False):
            check_trusted(source)
            return load_workload(source, OptimizerConfig()).name

    change = text_change(b":", b".py", b"mine", b"make", b".model.pkl", b"x.model.pkl", b"/", b"..")
    yield FuzzedReader("workload of a profile", _NAMES, of_name, change, special=[whole(b"schnet"), wide(b"mine:", b"a.")], weight=0.1)  # fmt: skip


def _undamaged(good: tuple[bytes, ...]) -> Any:
    return lambda data, _value: "" if data in good else "a model from a damaged file"


@contextmanager
def _no_code_may_run(*, but: bool) -> Iterator[None]:
    """Raise an error if the block runs the code of a payload or a module; `but`: it may."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
        sys.modules.pop("mine", None)
        if _TRACE.exists():
            _TRACE.unlink()
            if not but:
                raise RuntimeError("code ran")
