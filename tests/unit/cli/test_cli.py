import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import BaseModel, field_serializer
from pydantic_core import PydanticSerializationError
from typer.testing import CliRunner

from compass.cli.app import app
from compass.cli.tables import failure_line
from compass.config_files import load_config
from compass.demo.writing import write_demo
from compass.errors import InputError, WorkerError
from compass.optimizer import Request
from compass.profile import Profile, write_profile
from compass.records import BatchBudget, Description, Family, Load, Progress


@pytest.fixture(autouse=True)
def _workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def compass(*args: str):
    return CliRunner().invoke(app, args, catch_exceptions=False)


@pytest.fixture
def asked(monkeypatch, profile):
    """The requests `optimize` was called with. It tells its watcher something and returns the profile."""
    requests = []

    def fake(request, *, watch=lambda _: None, runner=None):
        requests.append(request)
        watch(Progress(phase="search", what="6 × 128", n_done=1, n_expected=3, remaining_s=4.0))
        failures = {stage: f for stage, f in profile.failures.items() if stage in request.stages}
        return profile.model_copy(update={"failures": failures})

    monkeypatch.setattr("compass.optimizer.optimize", fake)
    return requests


def ends(monkeypatch, error: BaseException) -> None:
    def fake(request, **_):
        raise error

    monkeypatch.setattr("compass.optimizer.optimize", fake)


# --------------------------------------------------------------------------------------------------------- optimize


def test_without_flags_the_request_is_the_default(asked):
    assert compass("optimize", "--stages", "prototyping").exit_code == 0
    assert asked == [Request(stages=("prototyping",))]


def test_every_flag_reaches_the_request(asked, tmp_path):
    Path("c.toml").write_text("seed = 5")
    result = compass(
        "optimize", "--stages", "production,smoke_test", "--stages", "smoke_test", "--protein", "data/1jmf_protein.pdb",
        "--ligand", "l.sdf", "--pocket-radius", "6.5", "--max-atoms", "500", "--dataset-size", "1000", "--device", "cpu",
        "--memory-limit", "2GiB", "--config", "c.toml", "--set", "cycle_batches=9", "--out", str(tmp_path / "p.json"),
        "--cache", "probes", "--workload", "mine:make",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    config = load_config(None, ["seed=5", "cycle_batches=9", "test_bench.name=1jmf_protein", "test_bench.ligand=l.sdf",
                                "test_bench.protein=data/1jmf_protein.pdb", "test_bench.pocket_radius=6.5",
                                "test_bench.max_atoms=500", "dataset.pocket_radius=6.5", "dataset.max_atoms=500"])  # fmt: skip
    assert asked == [
        Request(
            config=config, stages=("smoke_test", "production"), workload="mine:make", device="cpu",
            memory_limit_bytes=2 * 1024**3, dataset_size=1000, out=tmp_path / "p.json", cache=Path("probes"),
        )
    ]  # fmt: skip


def test_a_given_name_stays(asked):
    compass("optimize", "--protein", "a/b.pdb.gz", "--name", "1jmf", "--pocket-radius", "none")
    bench = asked[0].config.test_bench
    assert (bench.name, bench.pocket_radius) == ("1jmf", None)


def test_the_tables(asked):
    result = compass("optimize", "--stages", "smoke_test,prototyping")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout == (
        "Some CPU (cpu), 4.00 GiB may be used\n"
        "visnet, 19,000 complexes: at most 901,234 parameters\n"
        "reference: 6 × 128 fp32, 96,000\n"
        "                                                                      limited\n"
        "stage       layers × channels parameters batch   cycle epoch   memory      by\n"
        "smoke_test  2 × 32 fp32            8,000     1 ~15 min       1.32 GiB   score\n"
        "prototyping 6 × 128 fp32          96,000    32  15 min       1.32 GiB   score\n"
        "cycle: 450 batches. epoch: all 19,000 complexes once. ~: indicative only.\n"
        "\nsmoke_test\n"
        "  2 layers × 32 channels, 8,000 parameters, in batches of 1 graph, 64 batches\n"
        "  per weight update.\n"
        "  Memory peaks at 1.32 of 4.00 GiB, proven by 12 steps under that limit.\n"
        "  Limited by the score: a larger batch would be no faster, and no other model\n"
        "  scores better.\n"
        "  The best of 61 admissible configurations.\n"
        "\nprototyping\n"
        "  6 layers × 128 channels, 96,000 parameters, in batches of 32 graphs, 2\n"
        "  batches per weight update.\n"
        "  At 16 graphs/s an epoch of 19,000 complexes takes 20 min, 100 epochs 33.0 h.\n"
        "  Memory peaks at 1.32 of 4.00 GiB, proven by 12 steps under that limit.\n"
        "  Limited by the score: a larger batch would be no faster, and no other model\n"
        "  scores better.\n"
        "  The best of 61 admissible configurations.\n"
        "\nCopies of one complex (1ia1) stood in for the dataset: batches of your own data \n"
        "differ in size. Plan again with --dataset PATH before you train.\n"
        "\nwrote hardware_profile.json\n"
        "\nnext:\n"
        "  compass train --stage prototyping --dataset YOUR_DATASET  # train this plan\n"
        "  compass report                                            # see the reasons and the alternatives\n"
        "  compass verify                                            # repeat the proof later, or after a change of the machine\n"
    )
    answers, _, _ = result.stdout.partition("next:")
    assert max(map(len, answers.splitlines())) <= 80


def test_json_is_all_there_is_on_stdout(asked):
    result = compass("optimize", "--json", "--stages", "prototyping")
    assert Profile.model_validate_json(result.stdout).plans.keys() == {"smoke_test", "prototyping"}
    assert result.stderr == ""


def test_the_log_lies_beside_the_profile(asked, tmp_path):
    (tmp_path / "sub").mkdir()
    compass("optimize", "--out", "sub/p.json")
    assert Path("sub/hardware_optimizer.log").exists()


def test_a_stage_that_found_nothing_is_exit_code_3(asked):
    result = compass("optimize", "--json")
    assert result.exit_code == 3
    assert result.stderr == (
        "validation: no plan, limited by time: No model of the large space is fast enough. "
        "Nearest miss: 4 × 112 fp32, batch 32, 1.37 GiB, a cycle of 116.7 min.\n"
    )
    Profile.model_validate_json(result.stdout)


def test_an_interrupt_while_json_is_written_is_one_too(monkeypatch):
    """Pydantic raises an error of its own in its place."""

    class Slow(BaseModel):
        value: int = 1

        @field_serializer("value")
        def shown(self, _: int) -> int:
            raise KeyboardInterrupt

    with pytest.raises(PydanticSerializationError) as caught:
        Slow().model_dump_json()
    ends(monkeypatch, caught.value)
    result = compass("optimize")
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_an_interrupt_is_exit_code_130(monkeypatch):
    ends(monkeypatch, KeyboardInterrupt())
    result = compass("optimize")
    assert result.exit_code == 130
    assert result.stderr == "interrupted: finished stages are kept in hardware_profile.json\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("f", got="a", expected="b", fix="C."), 2), (WorkerError("no worker"), 1)],
)
def test_an_error_is_one_line_and_its_own_exit_code(monkeypatch, error, code):
    ends(monkeypatch, error)
    result = compass("optimize", "--json")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"error: {error}\n")
    assert str(error) in Path("hardware_optimizer.log").read_text()


HELP = "`compass config` shows every key with its reason."


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--stages", "prototypin"],
         "--stage: got 'prototypin'; expected one of smoke_test, prototyping, validation, production. "
         "Did you mean prototyping?"),
        (["--stages", "xyz"],
         "--stage: got 'xyz'; expected one of smoke_test, prototyping, validation, production. "
         "Name one or more of these."),
        (["--stages", "smoke_test,"],
         "--stage: got ''; expected one of smoke_test, prototyping, validation, production. "
         "Name one or more of these."),
        (["--dataset-size", "0"],
         "--dataset-size: got '0'; expected a whole number above zero, such as 19000 or 19k. Give the number of complexes, or other samples, that you train on."),
        (["--memory-limit", "-2GiB"],
         "--memory-limit: got '-2GiB'; expected a size above zero. Give the memory that may be used."),
        (["--memory-limit", "lots"],
         "--memory-limit: got 'lots'; expected a size such as 6GiB, 512MB or 1073741824. Write a number and a unit."),
        (["--max-atoms", "-3"], f"--max-atoms: got -3; expected at least 1. {HELP}"),
        (["--pocket-radius", "0"], f"--pocket-radius: got '0'; expected more than 0. {HELP}"),
        (["--pocket-radius", "wide"], f"--pocket-radius: got 'wide'; expected a number. {HELP}"),
        (["--set", "stages.prototyping.target=1"],
         "--set stages.prototyping.target: got the unknown key 'target'; expected a setting of Compass. "
         "Did you mean target_s?"),
        (["--config", "none.toml"],
         "config none.toml: got No such file or directory; expected a file that can be read. "
         "`compass config --out my_config.py` writes one."),
        (["--log-level", "loud"],
         "--log-level: got 'loud'; expected one of debug, info, warning, error. Choose one."),
        (["--out", "nowhere/p.json"],
         "output nowhere/p.json: got No such file or directory; expected a file in a writable folder. "
         "Choose another --out."),
        (["--out", "."], "output .: got Is a directory; expected a file in a writable folder. Choose another --out."),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_starts(asked, args, message):
    result = compass("optimize", *args)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {message}\n")
    assert asked == []
    assert list(Path().iterdir()) == []


def test_an_unwritable_log(asked):
    Path("hardware_optimizer.log").mkdir()
    result = compass("optimize")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: log hardware_optimizer.log: got Is a directory; expected a file in a writable folder. "
        "Choose another --out.\n"
    )
    assert asked == []


@pytest.mark.parametrize("args", [["--nonsense"], ["--dataset-size", "many"]])
def test_usage_errors_are_bad_input(asked, args):
    assert compass("optimize", *args).exit_code == 2
    assert asked == []


@pytest.fixture
def checked(monkeypatch, profile):
    """What the check before a dry run finds; its worker is a stand-in."""
    load = Load(graphs=1, sizes=(("nodes", 250.0), ("edges", 4984.0)))
    description = Description(
        fingerprint=profile.fingerprint, hardware=profile.hardware, features=("nodes", "edges"), baseline_bytes=2**28,
        samples=(("1ia1", load),),
    )  # fmt: skip
    monkeypatch.setattr(
        "compass.planning.precheck.local_runner",
        lambda request, settings: SimpleNamespace(describe=lambda: description, close=lambda: None),
    )
    return description


def test_a_dry_run_says_what_would_be_done(asked, checked):
    result = compass("optimize", "--dry-run", "--stages", "smoke_test,prototyping", "--memory-limit", "4GiB")
    assert result.exit_code == 0
    assert [line.strip().split(maxsplit=1) for line in result.stdout.splitlines() if line.startswith("stage")] == [
        ["stage", "smoke_test   no time limit"],
        ["stage", "prototyping  target 20.0 min; up to 40.0 min at a declining score"],
    ]
    assert "14 probes for each of 2 variants" in result.stdout
    assert asked == []
    assert list(Path().iterdir()) == []


def test_a_dry_run_as_json(asked, checked):
    said = json.loads(compass("optimize", "--dry-run", "--json").stdout)
    assert said["dataset"] == "19,000 complexes"
    assert said["memory"] == "4.00 GiB may be used, of which an idle worker takes 256.00 MiB"
    assert said["device"] == "Some CPU (cpu)"
    assert said["workload"] == "visnet: it loads; 1ia1 has 1 graph, 250 nodes, 4,984 edges"
    assert said["test bench"] == "1ia1 (embedded)"
    assert said["time"] == "about 4 min on two cores"


def test_a_dry_run_of_a_workload_with_its_own_samples(asked, checked, monkeypatch):
    one = Load(graphs=1, sizes=(("pixels", 784.0),))
    own = checked.model_copy(update={"samples": (("a", one), ("b", one)), "family": Family(noun="images")})
    monkeypatch.setattr(
        "compass.planning.precheck.local_runner",
        lambda request, settings: SimpleNamespace(describe=lambda: own, close=lambda: None),
    )

    def dry(*args):
        return json.loads(compass("optimize", "--dry-run", "--json", "--workload", "m.py:Model", *args).stdout)

    said = dry()
    assert "test bench" not in said
    assert said["dataset"] == "the workload's own 2 images"
    assert said["workload"].endswith("m.py:Model: it loads; a has 1 image, 784 pixels")
    assert dry("--dataset-size", "500")["dataset"] == "500 images"


def test_a_dry_run_of_a_run_that_was_made_before(asked, checked, profile):
    same = Request(config=load_config(), dataset_size=300).asked
    costs = profile.probe_costs.model_copy(update={"wall_s": 130.0})
    write_profile(profile.model_copy(update={"asked": same, "probe_costs": costs}), Path("hardware_profile.json"))
    said = json.loads(compass("optimize", "--dry-run", "--json", "--dataset-size", "300").stdout)
    assert said["time"] == "about 4 min on two cores; the last such run took 2 min"


def test_a_dry_run_reads_some_complexes(asked, checked):
    write_demo(Path("demo"))
    ligand = next(Path("demo/pdbbind/1ia1").glob("*_ligand.sdf"))
    ligand.write_text("no ligand")
    said = json.loads(compass("optimize", "--dry-run", "--json", "--dataset", "demo/pdbbind").stdout)
    start = f"{Path('demo/pdbbind').absolute()}, 53 listed; 7 of 8 that were tried can be used; 1ia1 rejected, "
    assert said["dataset"].startswith(start)
    assert said["time"] == "about 4 min on two cores, and the first scan of the dataset"
    assert "test bench" not in said
    for ligand in Path("demo/pdbbind").glob("*/*_ligand.sdf"):
        ligand.write_text("no ligand")
    refused = compass("optimize", "--dry-run", "--dataset", "demo/pdbbind")
    assert refused.exit_code == 2
    assert "got 8 complexes that cannot be used, such as 1ia1: " in refused.stderr


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["--dataset", "none"], "got no such folder or file"),
        (["--out", "no/where.json"], "got No such file or directory"),
        (["--memory-limit", "100MiB"], "expected at least"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(asked, checked, monkeypatch, args, error):
    if args[0] == "--memory-limit":
        small = checked.model_copy(
            update={"hardware": checked.hardware.model_copy(update={"budget_bytes": 100 * 2**20})}
        )
        monkeypatch.setattr(
            "compass.planning.precheck.local_runner",
            lambda request, settings: SimpleNamespace(describe=lambda: small, close=lambda: None),
        )
    result = compass("optimize", "--dry-run", *args)
    assert result.exit_code == 2
    assert error in result.stderr


# ---------------------------------------------------------------------------------------------- show, env and config


def test_show(profile):
    write_profile(profile, Path("hardware_profile.json"))
    result = compass("show")
    assert result.exit_code == 0
    assert "validation: no plan, limited by time" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert Profile.model_validate_json(compass("show", "--json").stdout) == profile


def test_show_one_stage(profile):
    write_profile(profile, Path("p.json"))
    result = compass("show", "p.json", "--stage", "prototyping")
    lines = [line.strip().split(maxsplit=1) for line in result.stdout.splitlines()]
    assert ["step", "2 s, 1.96 to 2.05 s in 9 steps"] in lines
    assert ["certificate", "12 steps under 4.00 GiB, enforced"] in lines
    assert "runners-up, predicted" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "fastest model  2 × 48 fp32, batch 64 under fast" in result.stdout
    as_json = compass("show", "p.json", "--stage", "prototyping", "--json").stdout
    assert json.loads(as_json) == json.loads(profile.plans["prototyping"].model_dump_json())


def test_predictions_and_measurements_of_one_stage_are_told_apart(profile):
    """A certified cycle stands beside other choices' predictions; the throughput is that of the epoch beside it."""
    plan = profile.plans["prototyping"]
    budget = BatchBudget(
        budget_bytes=2**32, max_graphs=64, max_step_s=None, n_batches=10, mean_graphs=40.0, median_fill=0.9, throughput=20.0, gain=0.25,
        footprint_bytes=2**31,
    )  # fmt: skip
    plan = plan.model_copy(update={"batch_budget": budget, "recommended": "batch_budget"}).with_times(1000, 10)
    write_profile(profile.model_copy(update={"plans": {"prototyping": plan}}), Path("p.json"))
    text = " ".join(compass("show", "p.json", "prototyping").stdout.split())
    assert "throughput 20 graphs/s in batches that fill the memory, as recommended; 16 in batches of 32 graphs" in text
    assert "epoch 50 s training 8 min for 100 epochs" in text
    assert "runners-up, predicted" in text
    brief = json.loads(compass("show", "p.json", "--json", "--brief").stdout)["stages"]["prototyping"]
    assert (brief["batching"], brief["graphs_per_s"]) == ("batch_budget", 20.0)


def test_show_a_doubt(profile):
    plan = profile.plans["prototyping"].model_copy(update={"doubts": ("memory laws missed a probe by 4%",)})
    write_profile(profile.model_copy(update={"plans": {**profile.plans, "prototyping": plan}}), Path("p.json"))
    assert "memory laws missed a probe by 4%" in compass("show", "p.json", "--stage", "prototyping").stdout


def test_show_a_plan_that_is_not_recommended(profile):
    plan = profile.plans["prototyping"].model_copy(update={"discouraged": "the time law is off by 40%"})
    write_profile(profile.model_copy(update={"plans": {**profile.plans, "prototyping": plan}}), Path("p.json"))
    one = compass("show", "p.json", "--stage", "prototyping").stdout
    assert "not recommended" in one
    assert "the time law is off by 40%" in one
    assert json.loads(compass("show", "p.json", "--stage", "prototyping", "--json").stdout)["discouraged"]


def test_show_a_failed_stage(profile):
    write_profile(profile, Path("p.json"))
    assert "Nearest miss" in compass("show", "p.json", "--stage", "validation").stdout


@pytest.mark.parametrize("reason", ["no model fits", "no model fits."])
def test_a_failures_line_is_two_sentences(profile, reason):
    failure = profile.failures["validation"].model_copy(update={"reason": reason})
    assert "limited by time: no model fits. Nearest miss: " in failure_line(failure)


def test_many_graphs_a_second_are_written_out(profile):
    plan = profile.plans["prototyping"]
    plan = plan.model_copy(update={"measured": plan.measured.model_copy(update={"throughput": 1520.4})})
    write_profile(profile.model_copy(update={"plans": {"prototyping": plan}}), Path("p.json"))
    assert "1,520" in compass("show", "p.json").stdout
    assert "1,520 graphs/s" in compass("show", "p.json", "--stage", "prototyping").stdout


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("production", "stage production: got nothing in this profile; expected a plan. "
                       "Run `compass optimize --stage production --out p.json`."),
        ("produce", "--stage: got 'produce'; expected one of smoke_test, prototyping, validation, production. "
                    "Did you mean production?"),
        ("production,prototyping", "--stage: got prototyping, production; expected one stage. Name prototyping or production."),
    ],
)  # fmt: skip
def test_show_a_stage_that_is_not_there(profile, stage, message):
    write_profile(profile, Path("p.json"))
    result = compass("show", "p.json", "--stage", stage)
    assert (result.exit_code, result.stderr) == (2, f"error: {message}\n")


def test_show_nothing():
    result = compass("show")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: profile hardware_profile.json: got No such file or directory; expected a hardware_profile.json. "
        "Run `compass optimize` first.\n"
    )


def test_env(monkeypatch, profile):
    asked = []

    class FakeRunner:
        def __init__(self, config, runtime, **kwargs):
            asked.append((config, runtime.threads, kwargs))

        def describe(self, knobs=()):
            load = Load(graphs=1, sizes=(("nodes", 240), ("edges", 5400)))
            return Description(
                fingerprint=profile.fingerprint, hardware=profile.hardware, features=("nodes", "edges"),
                baseline_bytes=350 * 1024**2, samples=(("1ia1", load),),
            )  # fmt: skip

        def close(self):
            asked.append("closed")

    monkeypatch.setattr("compass.probe.local.LocalRunner", FakeRunner)
    result = compass("env", "--memory-limit", "4GiB", "--set", "runtime.threads=3")
    assert result.exit_code == 0
    assert "Some CPU (cpu)" in result.stdout
    assert "1 graph, 240 nodes, 5,400 edges" in result.stdout
    config = load_config(None, ["runtime.threads=3"])
    assert asked == [(config, 3, {"workload": "visnet", "device": None, "limit_bytes": 4 * 1024**3}), "closed"]
    assert json.loads(compass("env", "--json").stdout)["baseline_bytes"] == 350 * 1024**2


def test_config_prints_what_loads_back():
    Path("c.py").write_text(compass("config", "--set", "seed=3").stdout)
    assert load_config(Path("c.py")) == load_config(None, ["seed=3"])


def test_config_writes_once():
    assert compass("config", "--out", "c.py").stderr == "wrote c.py\n"
    result = compass("config", "--out", "c.py")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: output c.py: got a file that is already there; expected a new file. Give --force to overwrite it.\n",
    )
    assert compass("config", "--out", "c.py", "--force", "--set", "seed=3").exit_code == 0
    assert load_config(Path("c.py")).seed == 3


def test_version():
    from compass.version import __version__

    assert compass("--version").stdout == f"{__version__}\n"


def test_an_interrupt_before_a_command_runs(monkeypatch, capsys):
    from compass.cli import main, streams

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(streams, "prepare_streams", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err) == (130, "interrupted\n")


# ------------------------------------------------------------------------------------------------------- on a terminal

SCRIPT = """
import sys
from compass import optimizer
from compass.cli import main

def fake(request, *, watch):
    sys.stdout.write(f"size {request.dataset_size}\\n")
    raise KeyboardInterrupt

optimizer.optimize = fake
main()
"""


def on_a_terminal(typed: bytes, *args: str) -> tuple[int, str]:
    """Exit code and everything said, with a terminal for stdin, stdout and stderr."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "optimize", *args], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ) as process:  # fmt: skip
        os.close(theirs)
        os.write(ours, typed)
        said = b""
        try:
            while chunk := os.read(ours, 4096):
                said += chunk
        except OSError:  # Linux ends a terminal's stream with EIO
            pass
    os.close(ours)
    return process.returncode, said.decode()


@pytest.mark.parametrize(
    ("typed", "args", "size", "asks"),
    [
        (b"1234\n", [], "1234", True),
        (b"\n", [], "19000", True),
        (b"\n", ["--set", "dataset.default_size=77"], "77", True),
        (b"", ["--dataset-size", "5"], "5", False),
        (b"", ["--workload", "my_model.py:Model"], "None", False),  # it has its own samples
    ],
)
def test_the_dataset_size_is_asked_for_on_a_terminal(typed, args, size, asks):
    code, said = on_a_terminal(typed, *args)
    assert code == 130
    assert f"size {size}" in said
    assert ("Number of complexes in your dataset" in said) is asks


# ------------------------------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize("command", ["", "optimize", "show", "verify", "train", "workload", "workload check"])
def test_the_help_shows_no_value_after_a_flag(command):
    assert "<bool>" not in compass(*command.split(), "--help").stdout


@pytest.mark.parametrize("args", [("show", "--json", "true"), ("verify", "--update", "False"), ("env", "--json", "1")])
def test_a_value_after_a_flag_is_refused(args):
    result = compass(*args)
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: {args[1]}: got the value {args[2]!r}; expected no value, because it is a flag. "
        f"Write {args[1]} alone, or leave it out.\n"
    )
