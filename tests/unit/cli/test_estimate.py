import csv
import io
import re
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from compass.cli.app import app
from compass.cli.estimate import AllocatorName
from compass.config_files import load_config
from compass.estimating import Question
from compass.optimizer import Request
from compass.records import ALLOCATORS, Estimate, Estimates, Interval, Knobs, Load, Progress, RuntimeSettings, Variant

MIB = 1024**2


@pytest.fixture(autouse=True)
def _workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def compass(*args: str):
    return CliRunner().invoke(app, ["estimate", *args], catch_exceptions=False)


def around(expected: float, share: float = 0.1) -> Interval:
    return Interval(expected=expected, low=expected / (1 + share), high=expected * (1 + share))


def make_row(layers: int, channels: int, *, checkpointing: bool = False) -> Estimate:
    variant = Variant(checkpointing=checkpointing, options=(("heads", 8),))
    return Estimate(
        knobs=Knobs(layers=layers, channels=channels, variant=variant), capacity=1_722_626, batch_size=8,
        load=Load(graphs=8, sizes=(("nodes", 2000.0), ("edges", 39872.0))),
        live_bytes=Interval(expected=1000 * MIB, low=1000 * MIB, high=1010 * MIB),
        footprint_bytes=Interval(expected=1350 * MIB, low=1350 * MIB, high=2000 * MIB), fits="yes",
        step_s=around(0.8), cycle_s=around(360), epoch_s=around(1900), training_s=around(190_000), throughput=10.0,
    )  # fmt: skip


@pytest.fixture
def asked(monkeypatch, profile):
    """What `estimate` was called with. One row, or for the whole space three."""
    calls = []

    def fake(request, question, *, watch=lambda _: None, runner=None):
        calls.append((request, question))
        watch(Progress(phase="calibrate", what="3 × 16", n_done=1, n_expected=14))
        one = (make_row(6, 128),)
        return Estimates(
            hardware=profile.hardware, fingerprint=profile.fingerprint, workload=request.workload,
            runtime=RuntimeSettings(threads=2), dataset_size=19_000, epochs=question.epochs, cycle_batches=450,
            n_probes=0 if request.cache else 33,
            rows=one if question.layers else (make_row(2, 32), *one, make_row(12, 384, checkpointing=True)),
        )  # fmt: skip

    monkeypatch.setattr("compass.estimating.estimate", fake)
    return calls


MODEL = ("--layers", "6", "--channels", "128")


def test_one_model_is_a_page(asked):
    result = compass(*MODEL, "--batch", "8", "--cache", "c")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "model        6 layers × 128 channels, fp32",
        "parameters   1,722,626",
        "batch        8 graphs, 2,000 nodes, 39,872 edges",
        "live memory  1000.00 MiB, upper bound 1010.00 MiB",
        "footprint    1.32 GiB to 1.95 GiB: fits in the 4.00 GiB that may be used",
        "step         800 ms, 727 ms to 880 ms",
        "throughput   10 graphs/s",
        "cycle        6.0 min, 5.5 min to 6.6 min (450 batches)",
        "epoch        31.7 min, 28.8 min to 34.8 min (2,375 batches for 19,000 complexes)",
        "training     52.8 h, 48.0 h to 58.1 h (100 epochs)",
        "assumes      2 threads, fast allocator; 90 % intervals of time",
    ]


def test_the_space_is_a_table_for_each_variant(asked):
    result = compass("--all", "--cache", "c")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "Some CPU (cpu), 4.00 GiB may be used; 2 threads, fast allocator; 90 % intervals",
        "of time",
        "training: 100 epochs of 19,000 complexes; memory is an upper bound",
        "fp32",
        "model   parameters batch   memory fits   step   ±   cycle training",
        "2 × 32   1,722,626     8 1.95 GiB  yes 800 ms 10% 6.0 min   52.8 h",
        "6 × 128  1,722,626     8 1.95 GiB  yes 800 ms 10% 6.0 min   52.8 h",
        "fp32+checkpointing",
        "model    parameters batch   memory fits   step   ±   cycle training",
        "12 × 384  1,722,626     8 1.95 GiB  yes 800 ms 10% 6.0 min   52.8 h",
    ]


def test_an_estimate_has_the_workloads_words(asked, monkeypatch):
    from compass import estimating

    made = estimating.estimate
    monkeypatch.setattr(
        "compass.estimating.estimate", lambda *a, **k: made(*a, **k).model_copy(update={"noun": "images"})
    )
    page, table = compass(*MODEL).stdout, compass("--all").stdout
    for text in ("8 images, 2,000 nodes", "10 images/s", "2,375 batches for 19,000 images)"):
        assert text in page
    assert "training: 100 epochs of 19,000 images; " in table
    assert not re.search("graph|complex", page)


@pytest.mark.parametrize("to", ["-", "space.csv"])
def test_csv(asked, to):
    result = compass("--all", "--csv", to)
    assert result.exit_code == 0
    text = result.stdout if to == "-" else Path(to).read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["layers"], row["channels"], row["checkpointing"]) for row in rows] == [
        ("2", "32", "False"), ("6", "128", "False"), ("12", "384", "True"),
    ]  # fmt: skip
    assert float(rows[0]["step_low_s"]) < float(rows[0]["step_s"]) == 0.8 < float(rows[0]["step_high_s"])
    assert float(rows[0]["footprint_high_bytes"]) == 2000 * MIB
    assert to == "-" or result.stdout == ""


def test_json_is_all_there_is_on_stdout(asked):
    result = compass(*MODEL, "--json", "--epochs", "3")
    assert Estimates.model_validate_json(result.stdout).epochs == 3


def test_it_says_when_it_had_to_calibrate(asked):
    assert compass(*MODEL, "--json").stderr == "calibrated with 33 probes, which are kept in the cache\n"


def test_without_flags_the_question_is_the_default(asked):
    compass("--all")
    assert asked == [(Request(), Question())]


def test_every_flag_reaches_the_question_and_the_request(asked):
    Path("c.toml").write_text("seed = 5")
    result = compass(
        *MODEL, "--batch", "8", "--precision", "bf16", "--checkpointing", "--allocator", "tight", "--epochs", "7",
        "--dataset-size", "1000", "--protein", "data/1jmf_protein.pdb", "--ligand", "l.sdf", "--pocket-radius", "6.5",
        "--max-atoms", "500", "--device", "cpu", "--memory-limit", "2GiB", "--config", "c.toml", "--set",
        "cycle_batches=9", "--cache", "probes", "--workload", "mine:make",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    config = load_config(None, ["seed=5", "cycle_batches=9", "test_bench.name=1jmf_protein", "test_bench.ligand=l.sdf",
                                "test_bench.protein=data/1jmf_protein.pdb", "test_bench.pocket_radius=6.5",
                                "test_bench.max_atoms=500"])  # fmt: skip
    assert asked == [
        (
            Request(config=config, workload="mine:make", device="cpu", memory_limit_bytes=2 * 1024**3,
                    dataset_size=1000, cache=Path("probes")),
            Question(6, 128, 8, {"precision": "bf16", "checkpointing": True}, allocator="tight", epochs=7),
        )
    ]  # fmt: skip


def test_the_size_of_the_dataset_is_left_to_the_lab(asked):
    """Which knows a configured dataset, and the size to assume without one."""
    compass("--all", "--no-checkpointing", "--set", "dataset.default_size=77")
    [(request, question)] = asked
    assert (request.dataset_size, request.config.dataset.default_size) == (None, 77)
    assert question.axes == {"checkpointing": False}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "model: got neither --layers and --channels nor --all; expected one model or the whole space. "
             "Give --layers and --channels, or --all."),
        (["--all", "--layers", "6"],
         "--all: got --layers as well; expected one model or the whole space. Leave out --all, or --layers."),
        (["--all", *MODEL],
         "--all: got --layers and --channels as well; expected one model or the whole space. "
         "Leave out --all, or --layers and --channels."),
        (["--layers", "6"],
         "channels: got nothing beside layers; expected both or neither. Give the width of the model."),
        (["--layers", "0", "--channels", "8"],
         "layers: got 0; expected a whole number above zero. Give the depth of the model."),
        ([*MODEL, "--batch", "0"],
         "batch: got 0; expected a whole number above zero. Give the size of a batch."),
        ([*MODEL, "--epochs", "0"],
         "epochs: got 0; expected a whole number above zero. Give the passes over the dataset."),
        ([*MODEL, "--dataset-size", "0"],
         "--dataset-size: got '0'; expected a whole number above zero, such as 19000 or 19k. Give the number of complexes, or other samples, that you train on."),
        ([*MODEL, "--csv", "-", "--json"], "--csv: got --json as well; expected one of the two. Leave one out."),
        (["--all", "--csv", "nowhere/space.csv"],
         "output nowhere/space.csv: got No such file or directory; expected a file in a writable folder. "
         "Choose another --csv."),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_starts(asked, args, message):
    result = compass(*args)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"error: {message}\n")
    assert asked == []
    assert list(Path().iterdir()) == []


@pytest.mark.slow
def test_channels_that_the_heads_cannot_share():
    result = compass("--layers", "6", "--channels", "100")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: channels: got 100; expected a multiple of the 8 attention heads. "
        "Give 96 or 104, or change space.options.heads.\n"
    )


def test_every_allocator_may_be_asked_about():
    assert get_args(AllocatorName) == tuple(ALLOCATORS)


@pytest.mark.parametrize("args", [["--precision", "fp8"], ["--allocator", "loose"], ["--layers", "many"]])
def test_usage_errors_are_bad_input(asked, args):
    assert compass(*MODEL, *args).exit_code == 2
    assert asked == []


@pytest.mark.parametrize(("fits", "code"), [(("no",), 3), (("no", "no"), 3), (("no", "perhaps"), 0), (("yes",), 0)])
def test_the_exit_code_says_whether_anything_fits(monkeypatch, profile, fits, code):
    rows = tuple(make_row(2 + i, 64).model_copy(update={"fits": one}) for i, one in enumerate(fits))
    found = Estimates(
        hardware=profile.hardware, fingerprint=profile.fingerprint, workload="visnet", runtime=RuntimeSettings(threads=2),
        dataset_size=19_000, epochs=100, cycle_batches=450, n_probes=0, rows=rows,
    )  # fmt: skip
    monkeypatch.setattr("compass.estimating.estimate", lambda *_, **__: found)
    assert [compass("--all", *more).exit_code for more in ((), ("--json",), ("--csv", "-"))] == [code] * 3
