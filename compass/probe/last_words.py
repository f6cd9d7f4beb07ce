"""The reason for a process's death, from the end of its standard error: the words that explain it, not those that came last."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

_TERMINATE = re.compile(
    r"^terminate called (?:after throwing an instance of '(?P<type>.+)'|.*)$\n?(?:^ +what\(\): +(?P<what>.*)$)?",
    re.MULTILINE,
)
_FATAL = re.compile(r"^Fatal Python error: (?P<what>.*)$", re.MULTILINE)
_ABORTED = "Aborted"
_NATIVE = re.compile(
    r"assertion .*failed|check failed|corrupt|stack smashing|free\(\)|malloc|munmap_chunk|fatal|panic|error",
    re.IGNORECASE,
)
"""What libraries write before they abort."""
_N_BEFORE = 5
"""Lines before an abort among which its reason is looked for."""
_TRACEBACK = "Traceback (most recent call last):"
_IGNORED = ("Exception ignored in", "Exception in thread")
"""A traceback after such a line did not end the process."""
_FRAME = re.compile(r'^ *File "(?P<file>[^"]+)", line (?P<line>\d+),? in (?P<name>.+)$')
_LIBRARY = re.compile(r"/site-packages/|/lib/python3|<frozen|/compass/(?:probe|workloads)/")
_NOISE = re.compile(
    r"^Extension modules: |Warning: |^\[W\d|^\s*warnings\.warn\(|^Traceback \(most recent call last\):$"
)


def reason_of_death(text: str) -> str:
    """The reason in one line, with its place in the user's code where there is one; empty if `text` has none."""
    for found in (_terminated(text), _native_abort(text), _fatal(text), _exception(text)):
        if found:
            return found
    return ""


def without_noise(text: str) -> str:
    """`text` without warnings and lists of modules, which explain nothing."""
    return "\n".join(line for line in text.splitlines() if not _NOISE.search(line)).strip()


def _terminated(text: str) -> str:
    """The uncaught exception of C++."""
    found = None
    for found in _TERMINATE.finditer(text):  # noqa: B007 - the last one
        pass
    if found is None:
        return ""
    return f"C++ exception {found['type']}: {found['what'] or ''}".rstrip(": ") if found["type"] else found[0].strip()


def _native_abort(text: str) -> str:
    """What a library wrote before it called `abort`."""
    fatal = _last_fatal(text)
    if fatal is None or fatal["what"] != _ABORTED:
        return ""
    before = without_noise(text[: fatal.start()]).splitlines()[-_N_BEFORE:]
    return next((line.strip() for line in reversed(before) if _NATIVE.search(line)), "")


def _fatal(text: str) -> str:
    """The error that ended the interpreter, such as a segmentation fault."""
    fatal = _last_fatal(text)
    return "" if fatal is None else fatal["what"] + _place(_frames(text[fatal.end() :]))


def _exception(text: str) -> str:
    """The last exception that was not caught."""
    lines = text.splitlines()
    for start in reversed([at for at, line in enumerate(lines) if line == _TRACEBACK]):
        if start and lines[start - 1].startswith(_IGNORED):
            continue
        block = lines[start + 1 :]
        said = next((line for line in block if line and not line.startswith(" ")), "")
        if said:
            frames = list(_frames("\n".join(block[: block.index(said)])))
            return said + _place(reversed(frames))
    return ""


def _last_fatal(text: str) -> re.Match[str] | None:
    found = list(_FATAL.finditer(text))
    return found[-1] if found else None


def _frames(text: str) -> Iterator[re.Match[str]]:
    for line in text.splitlines():
        if found := _FRAME.match(line):
            yield found
        elif line.startswith(("Thread ", "Extension modules")):
            return


def _place(frames: Iterator[re.Match[str]]) -> str:
    """The first of `frames`, innermost first, that is not of a library; empty without one."""
    found = next((frame for frame in frames if not _LIBRARY.search(frame["file"])), None)
    return "" if found is None else f" ({PurePath(found['file']).name}, line {found['line']}, in {found['name']})"
