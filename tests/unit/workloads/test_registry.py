import pickle
import sys
import textwrap
from importlib.metadata import EntryPoint

import pytest

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.records import Batch
from compass.workloads import registry
from compass.workloads.registry import load_workload
from compass.workloads.visnet import ViSNetWorkload

CONFIG = OptimizerConfig()
GOOD = """
    from __future__ import annotations
    from dataclasses import dataclass

    @dataclass
    class Mine:
        config: object
        name = "mine"
        features = ("rows",)
        digest = "1"
        samples = build = blocks = collate = load = loss = None

    class Family:
        make = Mine

    def broken(config):
        raise KeyError("no such thing")

    def refuses(config):
        from compass.errors import InputError
        raise InputError("space.options.depth", got="7", expected="8", fix="Count again.")
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(GOOD))
    yield path
    for name in ("mine", "compass_workload_mine"):
        sys.modules.pop(name, None)


def refusal(source):
    with pytest.raises(InputError) as caught:
        load_workload(source, CONFIG)
    return str(caught.value)


def test_the_family_inside():
    assert isinstance(load_workload("visnet", CONFIG), ViSNetWorkload)


@pytest.mark.parametrize("place", ["file", "module"])
def test_a_factory_gets_the_config(file, monkeypatch, place):
    monkeypatch.syspath_prepend(file.parent)
    workload = load_workload(f"{file}:Mine" if place == "file" else "mine:Mine", CONFIG)
    assert (workload.name, workload.config) == ("mine", CONFIG)


def test_all_members_may_be_the_authors_and_loads_dictionaries(file):
    file.write_text(
        textwrap.dedent("""
        class All:
            name, digest, features = "all", "1", ("rows",)
            build = collate = loss = None
            def __init__(self, config): pass
            def samples(self): return {"a": {"rows": 2}}
            def blocks(self, model): return []
            def load(self, batch): return {"rows": 4}
    """)
    )
    workload = load_workload(f"{file}:All", CONFIG)
    batch = Batch(members=(("a", 2),))
    assert (workload.name, workload.digest) == ("all", "1")
    assert dict(workload.samples()["a"].sizes) == {"rows": 2.0}
    assert dict(workload.load(batch).sizes) == {"rows": 4.0}


def test_a_factory_may_sit_in_a_class(file, monkeypatch):
    monkeypatch.syspath_prepend(file.parent)
    assert load_workload("mine:Family.make", CONFIG).name == "mine"


def test_a_files_classes_can_be_pickled(file):
    """Data loaders pickle them; they are looked up by their module's name."""
    made = load_workload(f"{file}:Mine", CONFIG)
    assert type(pickle.loads(pickle.dumps(type(made)(3)))) is type(made)  # noqa: S301 - our own


@pytest.fixture
def installed(file, monkeypatch):
    """A package that offers a family, and one that would like to be the one inside."""
    monkeypatch.syspath_prepend(file.parent)
    entries = [EntryPoint(name, "mine:Mine", "compass.workloads") for name in ("theirs", "visnet")]
    monkeypatch.setattr(registry, "entry_points", lambda group: {"compass.workloads": entries}[group])


@pytest.mark.usefixtures("installed")
def test_an_installed_family():
    assert load_workload("theirs", CONFIG).name == "mine"
    assert load_workload("visnet", CONFIG).name == "visnet"
    assert refusal("thiers") == (
        "workload: got thiers; expected one of dimenet++, gps, schnet, theirs, visnet, package.module:factory or "
        "path/to/file.py:factory. "
        "Did you mean theirs?"
    )


@pytest.mark.parametrize(
    ("source", "fix"),
    [
        ("visnt", "Did you mean visnet?"),
        ("ViSNet", "Did you mean visnet?"),
        ("dimenet", "Did you mean dimenet++?"),
        ("transformer", "Name one of these."),
        ("my_model.py", "Name what builds the workload, too: my_model.py:NAME."),
    ],
)
def test_an_unknown_name(source, fix):
    assert refusal(source) == (
        f"workload: got {source}; expected one of dimenet++, gps, schnet, visnet, package.module:factory or path/to/file.py:factory. "
        f"{fix}"
    )


def test_a_misspelt_factory_of_a_file(file):
    assert refusal(f"{file}:Mien") == (
        f"workload {file}:Mien: got no Mien in that file; expected one of Mine, Family, broken, refuses. Did you mean Mine?"
    )
    (file.parent / "empty.py").touch()
    assert refusal(f"{file.parent}/empty.py:Mine") == (
        f"workload {file.parent}/empty.py:Mine: got no Mine in that file; expected a class or function that builds a workload. "
        "Name what builds the workload."
    )


@pytest.mark.parametrize(
    ("source", "got"),
    [
        ("no.such.module:make", "ModuleNotFoundError: No module named 'no'"),
        ("compass.errors:make", "AttributeError: module 'compass.errors' has no attribute 'make'"),
        ("no/such/file.py:make", "FileNotFoundError: [Errno 2] No such file or directory: '{cwd}/no/such/file.py'"),
        ("{folder}/typo.py:make", "SyntaxError: '(' was never closed (typo.py, line 1)"),
        ("{folder}/fails.py:make", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_factory_that_cannot_be_imported(file, monkeypatch, source, got):
    monkeypatch.chdir(file.parent)
    (file.parent / "typo.py").write_text("make = (")
    (file.parent / "fails.py").write_text("1 / 0")
    source = source.format(folder=file.parent)
    assert refusal(source) == (
        f"workload {source}: got {got.format(cwd=file.parent)}; expected an importable factory. "
        "Check the name, the Python path, the module."
    )


def test_a_factory_that_fails(file):
    source = f"{file}:broken"
    assert refusal(source) == (
        f"workload {source}: got KeyError: 'no such thing'; expected a factory that takes an OptimizerConfig. "
        "Correct the factory."
    )


def test_a_factory_that_refuses_speaks_for_itself(file):
    assert refusal(f"{file}:refuses") == "space.options.depth: got 7; expected 8. Count again."


def test_what_is_made_lacks_something():
    assert refusal("copy:copy") == (
        "workload copy:copy: got an object without build, collate, features, loss, samples; "
        "expected the members of compass.workloads.protocol.MinimalWorkload. Add what is missing."
    )
