"""The rules of the house: who may import whom, and what starting up may load."""

import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "torch_geometric",
    "rdkit",
    "gemmi",
    "botorch",
    "optuna",
    "pandas",
    "scipy",
    "matplotlib",
    "ray",
    "submitit",
)


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("compass", cache_dir=None)


def test_contracts():
    """In a process of its own: import-linter turns off the loggers that are there."""
    lint = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nobody_inside_imports_the_package_root(graph):
    assert graph.find_modules_that_directly_import("compass") == set()


def test_no_package_has_a_cycle_among_its_members(graph):
    packages = {module.rpartition(".")[0] for module in graph.modules} - {""}
    assert {package: breakers for package in packages if (breakers := graph.nominate_cycle_breakers(package))} == {}


@pytest.mark.parametrize("deciding", ["stages", "search", "cost", "optimizer"])
@pytest.mark.parametrize("reading", ["reporting", "training"])
def test_reports_and_training_know_only_records(graph, reading, deciding):
    reader, decider = f"compass.{reading}", f"compass.{deciding}"
    if {reader, decider} <= graph.modules:  # the rooms are built one after another
        assert not graph.chain_exists(importer=reader, imported=decider, as_packages=True)


def loaded_by(code: str) -> set[str]:
    """The heavy packages that running `code` in a fresh interpreter loads."""
    show = f"import sys; print(*(name for name in {HEAVY} if name in sys.modules), file=sys.__stderr__)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


HELP = "import compass.cli, sys\nsys.argv = ['compass', *{}]\ntry: compass.cli.main()\nexcept SystemExit: pass"


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["optimize", "--help"],
        ["estimate", "-h"],
        ["show", "--help"],
        ["report", "-h"],
        ["explain", "-h"],
        ["compare", "-h"],
        ["env", "-h"],
        ["doctor", "-h"],
        ["demo", "-h"],
        ["config", "-h"],
        ["scan", "-h"],
        ["export", "-h"],
        ["workload", "check", "-h"],
        ["fleet", "--help"],
        ["fleet", "optimize", "-h"],
    ],
)
def test_help_loads_nothing_heavy(args):
    assert loaded_by(HELP.format(args)) == set()


@pytest.mark.parametrize(
    "code",
    [
        "import compass",
        "import compass.optimizer",
        "import compass.estimating",
        "import compass.reporting.view, compass.reporting.page, compass.reporting.static, compass.reporting.markdown",
        "import compass.probe.local",
        "import compass.config_files",
        "import compass.doctor.examination",
        "import compass.fleet.optimize, compass.fleet.engines, compass.fleet.agent, compass.fleet.table",
        "import compass.data.scan.catalogue, compass.data.scan.scan",
        "from compass import optimize, load_profile, Profile, Request, OptimizerConfig",
    ],
)
def test_the_deciding_process_loads_nothing_heavy(code):
    assert loaded_by(code) == set()


def test_help_loads_no_settings():
    show = "print('pydantic' in sys.modules or 'compass.optimizer_config' in sys.modules, file=sys.__stderr__)"
    done = subprocess.run(
        [sys.executable, "-c", HELP.format(["--help"]) + f"\n{show}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "False\n"


def test_the_root_offers_what_it_says():
    import compass

    assert set(compass.__all__) <= set(dir(compass))
    for name in compass.__all__:
        assert getattr(compass, name) is not None
    with pytest.raises(AttributeError, match=r"module 'compass' has no attribute 'nonsense'"):
        _ = compass.nonsense
