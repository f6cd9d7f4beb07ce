"""Commands whose output, disk or descriptors end: one line and the right exit code, never a traceback or half a file."""

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compass.demo.crops import cut_crops
from compass.profile import write_profile

ROOT = Path(__file__).parents[2]
BUGS = ("Traceback", "Exception ignored", "Logging error", "UnicodeEncodeError", "Exception in thread")
COMMANDS = {
    "help": ["--help"],
    "help of a command": ["optimize", "--help"],
    "show": ["show"],
    "show json": ["show", "--json"],
    "stage": ["show", "prototyping"],
    "export": ["export", "prototyping"],
    "report": ["report", "--markdown", "-"],
    "config": ["config"],
    "schema": ["schema"],
    "replay": ["scan", "data", "--only", "1abc"],
}
"""Those that print much and take a second."""
FILES = {
    "export": ["export", "prototyping", "--out", "OUT/plan.json"],
    "page": ["report", "--out", "OUT/page.html"],
    "markdown": ["report", "--markdown", "OUT/page.md"],
    "config": ["config", "--out", "OUT/config.py"],
    "scan": ["scan", "data", "--report", "OUT", "--cache", "OUT/cache", "--workers", "1"],
    "demo": ["demo", "OUT/demo"],
}
"""Those that write files."""
ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "gbk": {"PYTHONIOENCODING": "gbk"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def profiles():
    """The module that makes profiles by hand."""
    found = importlib.util.spec_from_file_location("profiles", ROOT / "tests" / "unit" / "conftest.py")
    module = sys.modules["profiles"] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a profile and a dataset of one complex."""
    path = tmp_path_factory.mktemp("ends")
    write_profile(profiles().make_profile(), path / "hardware_profile.json")
    place = path / "data" / "1abc"
    place.mkdir(parents=True)
    crop = cut_crops()[0]
    (place / "1abc_protein.pdb").write_text(crop.protein)
    (place / "1abc_ligand.sdf").write_text(crop.ligand)
    return path


def compass(folder, args, way='exec "$@"', *, n_files=None, n_bytes=None, out=None, **variables):
    """Run a command in `folder`, its descriptors redirected as in the shell's `way`."""

    def limit():
        for what, value in ((resource.RLIMIT_NOFILE, n_files), (resource.RLIMIT_FSIZE, n_bytes)):
            if value is not None:
                resource.setrlimit(what, (value, value))

    words = [sys.executable, "-m", "compass", *(word.replace("OUT", str(out)) for word in args)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), **variables}
    return subprocess.run(
        ["sh", "-c", way, "sh", *words], cwd=folder, env=environment, capture_output=True, check=False, preexec_fn=limit
    )  # fmt: skip


def check(done, code, *, lines=None):
    """The exit code and the number of lines on standard error, without any sign of a bug."""
    said = (done.stderr + done.stdout).decode(errors="replace")
    assert [word for word in BUGS if word in said] == []
    assert done.returncode == code, said
    if lines is not None:
        assert len(done.stderr.decode(errors="replace").splitlines()) == lines, said


# ------------------------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("name", ["help", "show", "config"])
def test_a_full_output(folder, name):
    done = compass(folder, COMMANDS[name], 'exec "$@" >/dev/full')
    check(done, 2, lines=1)
    assert done.stderr.decode() == (
        "error: standard output: got No space left on device; expected an output that can be written. "
        "Make room, or send it elsewhere.\n"
    )


@pytest.mark.parametrize("name", ["help", "show json", "replay"])
def test_a_reader_that_has_gone(folder, name):
    done = compass(folder, COMMANDS[name], '{ "$@"; echo $? >&2; } | true')
    check(done, 0)
    assert done.stderr == b"141\n"


@pytest.mark.parametrize(
    ("way", "lines"), [('exec "$@" >&-', 0), ('exec "$@" 2>&-', 0), ('exec "$@" 2>/dev/full', 0), ('exec "$@" 0<&-', 0)]
)
def test_closed_descriptors(folder, way, lines):
    check(compass(folder, COMMANDS["show"], way), 0, lines=lines)


def test_an_error_that_nobody_can_read_keeps_its_exit_code(folder):
    for way in ('exec "$@" 2>&-', 'exec "$@" 2>/dev/full', 'exec "$@" >&- 2>&-'):
        check(compass(folder, ["show", "none.json"], way), 2, lines=0)


# ----------------------------------------------------------------------------------------------------------- encodings


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding(folder, encoding):
    name = "ascii" if encoding == "C" else encoding
    for command in ("help of a command", "show", "report", "config", "schema"):
        done = compass(folder, COMMANDS[command], **ENCODINGS[encoding])
        check(done, 0, lines=None if command == "report" else 0)
        done.stdout.decode(name)
    plain = compass(folder, COMMANDS["show"], **ENCODINGS[encoding]).stdout.decode(name)
    assert ("6 × 128" in plain) == (name in {"latin-1", "cp1252", "gbk"})
    assert name != "ascii" or "6 x 128" in plain


def test_json_is_the_same_in_every_encoding(folder):
    found = [json.loads(compass(folder, COMMANDS["schema"], **changes).stdout.decode(name))
             for name, changes in (("ascii", ENCODINGS["C"]), ("gbk", ENCODINGS["gbk"]), ("utf-8", {}))]  # fmt: skip
    assert found[0] == found[1] == found[2]


def test_a_path_with_bytes_that_are_no_text(folder, tmp_path):
    place = tmp_path / os.fsdecode(b"d\xe9j\xe0\x1b[31m")
    place.mkdir()
    shutil.copy(folder / "hardware_profile.json", place)
    check(compass(folder, ["show", str(place / "hardware_profile.json")]), 0)
    check(
        compass(
            folder, ["export", "prototyping", str(place / "hardware_profile.json"), "--out", str(place / "o.json")]
        ),
        0,
    )
    assert json.loads((place / "o.json").read_text())
    done = compass(folder, ["show", str(place / "none.json")])
    check(done, 2, lines=1)
    assert rb"d\udce9j\udce0\x1b[31m" in done.stderr
    check(compass(folder, ["report", str(place / "hardware_profile.json"), "--json"]), 0)


# --------------------------------------------------------------------------------------------------- files, descriptors


@pytest.mark.parametrize("name", FILES)
def test_files_that_may_not_grow(folder, tmp_path, name):
    """A disk without room, made with a limit on the size of files."""
    done = compass(folder, FILES[name], n_bytes=300, out=tmp_path)
    check(done, 2, lines=1)
    assert done.stderr.startswith(b"error: ")
    left = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and path.suffix in {".json", ".html", ".md", ".py", ".jsonl"}
    ]
    assert left == []


def test_few_descriptors(folder, tmp_path):
    for name in ("export", "page", "scan", "demo"):
        check(compass(folder, FILES[name], n_files=24, out=tmp_path), 0)
    done = compass(folder, COMMANDS["show"], n_files=5)
    assert done.returncode in {0, 1, 2}


def mounted(place, options):
    """A small file system at `place`; skips where mounting is not allowed."""
    place.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {getattr(error, 'stderr', error)!r}")


@pytest.fixture
def tiny(tmp_path):
    place = tmp_path / "tiny"
    mounted(place, "size=8k")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture
def read_only(tmp_path):
    place = tmp_path / "read_only"
    mounted(place, "ro,size=8k")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("name", ["page", "config", "scan", "demo"])
def test_a_full_disk(folder, tiny, name):
    done = compass(folder, FILES[name], out=tiny)
    check(done, 2, lines=1)
    assert not [path for path in tiny.rglob("*") if path.is_file() and path.name.startswith(".")]


@pytest.mark.parametrize("name", FILES)
def test_a_read_only_disk(folder, read_only, name):
    done = compass(folder, FILES[name], out=read_only)
    check(done, 2, lines=1)
    assert b"Read-only file system" in done.stderr or b"readonly" in done.stderr or b"unable to open" in done.stderr


def test_a_link_in_the_place_of_an_output(folder, tmp_path):
    (tmp_path / "link").symlink_to("far.json")
    (tmp_path / "circle").symlink_to("circle")
    check(compass(folder, ["export", "prototyping", "--out", str(tmp_path / "link")]), 0)
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "far.json").read_text())
    check(compass(folder, ["export", "prototyping", "--out", str(tmp_path / "circle")]), 2, lines=1)
    done = compass(folder, ["export", "prototyping", "--out", "/dev/stdout"])
    check(done, 0)
    assert json.loads(done.stdout)
