"""Optuna's study shows what the ledger says, wherever it is kept and whatever became of the one before."""

import math
import socket
import subprocess
import sys
import time
import urllib.request

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from compass.config_files import load_config
from compass.errors import InputError
from compass.records import (
    Batch,
    Choice,
    Knobs,
    Load,
    Outcome,
    ProbeSpec,
    RuntimeSettings,
    Status,
    StepTime,
    Variant,
)
from compass.search import storage as storage_module
from compass.search.storage import check_storage, write_study
from compass.search.study import NO_SCORE, REFUSED, Frame, fill_studies, lateness

KNOBS = [
    Knobs(layers=depth, channels=16 * width, variant=Variant(checkpointing=checkpointing, options=(("heads", 8),)))
    for depth in (2, 3, 5)
    for width in (2, 4)
    for checkpointing in (False, True)
]
CAPACITY = {knobs: 1_000 * knobs.layers * knobs.channels for knobs in KNOBS}
REFERENCE = Choice(
    knobs=KNOBS[-1], capacity=320_000, batch_size=10, load=Load(graphs=10, sizes=(("nodes", 1_000),)), live_bytes=1e6,
    footprint_bound_bytes=2e6, step_s=1.0, cycle_s=450.0, throughput=10.0, score=1.0,
)  # fmt: skip
FRAME = Frame(
    machine="Some CPU 12345678",
    config=load_config(None, ["stages.prototyping.target_s=400", "stages.prototyping.window_s=100"]),
    budget_bytes=1_000,
    capacities=CAPACITY,
    shares={"prototyping": (0.1, 0.5), "validation": (0.5, 1.0)},
    reference=REFERENCE,
)


def probe(knobs=KNOBS[0], graphs=4, status=Status.OK, *, step_s=0.5, synthetic=False, **changes):
    load = Load(graphs=graphs, sizes=(("nodes", 100.0 * graphs),))
    batch = Batch(synthetic=load) if synthetic else Batch(members=(("1ia1", graphs),))
    spec = ProbeSpec(
        knobs=knobs, batches=(batch,), min_steps=2, max_steps=4, timeout_s=60.0, runtime=RuntimeSettings(threads=1)
    )
    measured = {
        "parameters": CAPACITY[knobs], "footprint_bytes": 600, "live_bytes": 300, "n_steps": 4,
        "step": StepTime(median_s=step_s, low_s=step_s, high_s=step_s, n_steps=4),
    }  # fmt: skip
    detail = {} if status is Status.OK else {"detail": f"it was {status}"}
    return spec, Outcome(status=status, **{**detail, **(measured if status is Status.OK else {}), **changes})


def shown(probes, frame=FRAME):
    """The trials of every study, by what it is of."""
    storage = InMemoryStorage()
    fill_studies(probes, frame, storage)
    return trials_in(storage)


def trials_in(storage):
    return {
        name.rpartition("/")[2]: optuna.load_study(study_name=name, storage=storage).trials
        for name in sorted(optuna.get_all_study_names(storage))
    }


def in_journal(path):
    return trials_in(JournalStorage(JournalFileBackend(str(path))))


def essence(trials):
    return [
        (t.state, t.values, t.params, t.distributions, t.user_attrs, t.constraints) for t in trials
    ]  # fmt: skip


probes_of_any_kind = st.lists(
    st.builds(
        probe,
        st.sampled_from(KNOBS),
        st.integers(1, 64),
        st.sampled_from(list(Status)),
        step_s=st.floats(1e-3, 5.0),
        synthetic=st.booleans(),
    ),
    max_size=12,
)


# ----------------------------------------------------------------------------------------------- what a trial says


@given(probes_of_any_kind)
def test_every_question_on_real_samples_is_one_trial_of_the_ledger(probes):
    asked = {spec.key: (spec, outcome) for spec, outcome in probes if spec.batches[0].members}
    trials = shown(probes)["ledger"]
    assert [trial.user_attrs["probe"] for trial in trials] == list(asked)
    for trial, (spec, outcome) in zip(trials, asked.values(), strict=True):
        ran = outcome.status is Status.OK
        assert trial.state is (
            TrialState.COMPLETE if ran or outcome.status is Status.OUT_OF_MEMORY else TrialState.FAIL
        )
        assert Knobs(
            layers=trial.params["layers"],
            channels=trial.params["channels"],
            variant=Variant(
                precision=trial.params["precision"],
                checkpointing=trial.params["checkpointing"],
                options=spec.knobs.variant.options,
            ),
        ) == spec.knobs  # fmt: skip
        assert trial.params["batch"] == spec.batches[0].members[0][1]
        assert trial.user_attrs["status"] == outcome.status
        if trial.state is TrialState.COMPLETE:
            assert trial.values[1] == CAPACITY[spec.knobs]
            assert (trial.values[0] > 0) == ran
            assert all(value <= 0 for value in trial.constraints.values()) == ran
        else:
            assert trial.user_attrs["reason"] == outcome.detail


@given(probes_of_any_kind)
def test_a_stage_shows_its_own_space_by_its_score(probes):
    studies = shown(probes)
    for stage, (low, high) in FRAME.shares.items():
        inside = [t for t in studies["ledger"] if low <= t.user_attrs["capacity"] / REFERENCE.capacity <= high]
        trials = studies.get(stage, [])
        assert [t.user_attrs["probe"] for t in trials] == [t.user_attrs["probe"] for t in inside]
        rules = FRAME.config.stages[stage]
        for trial in trials:
            if trial.state is not TrialState.COMPLETE:
                continue
            cycle_s = trial.user_attrs.get("cycle_s", math.inf)
            late = cycle_s > rules.target_s + rules.window_s
            assert math.isfinite(trial.value)
            assert (trial.value == NO_SCORE) == late
            assert any(value > 0 for value in trial.constraints.values()) == late
            if cycle_s <= rules.target_s:
                fast = trial.user_attrs["throughput"] / REFERENCE.throughput
                large = trial.user_attrs["capacity"] / REFERENCE.capacity
                q = rules.quality_weight
                assert trial.value == pytest.approx((1 - q) * fast**-0.26 + q * large**-0.26)


def test_out_of_memory_is_a_finding_and_breaks_the_constraint():
    (trial,) = shown([probe(status=Status.OUT_OF_MEMORY)])["prototyping"]
    assert (trial.state, trial.value) == (TrialState.COMPLETE, NO_SCORE)
    assert trial.constraints == {"memory": REFUSED, "time": 0.0}
    assert trial.user_attrs["reason"] == "it was out_of_memory"


def test_what_ran_fitted_whatever_its_process_held():
    """A long-lived worker's footprint remembers what it did before."""
    trials = shown([probe(graphs=1), probe(graphs=2, footprint_bytes=4_000)])["prototyping"]
    assert [trial.constraints["memory"] for trial in trials] == [pytest.approx(-0.4), 0.0]


def test_a_certificate_is_measured_against_its_own_ceiling():
    spec, outcome = probe()
    certificate = spec.model_copy(update={"ceiling_bytes": 800, "fresh": True})
    (trial,) = shown([(certificate, outcome)])["ledger"]
    assert trial.constraints["memory"] == pytest.approx(-0.25)
    assert trial.user_attrs["kind"] == "certificate"


def test_a_cycle_beyond_the_window_breaks_the_constraint():
    (trial,) = shown([probe(step_s=600 / 450)])["prototyping"]
    assert trial.value == NO_SCORE
    assert trial.constraints == {"memory": pytest.approx(-0.4), "time": pytest.approx(0.2)}


def test_without_a_target_nothing_is_late():
    assert lateness(1e9, FRAME.config.stages.production) == 0.0


def test_the_last_answer_counts():
    trials = shown([probe(status=Status.CRASHED), probe(graphs=9), probe(step_s=0.25)])["ledger"]
    assert [(t.state, t.user_attrs["throughput"]) for t in trials] == [
        (TrialState.COMPLETE, 16.0),
        (TrialState.COMPLETE, 18.0),
    ]


def test_left_out_are_too_few_steps_and_models_of_no_known_size():
    stranger = Knobs(layers=9, channels=16)
    refused = (probe()[0].model_copy(update={"knobs": stranger}), Outcome(status=Status.OUT_OF_MEMORY))
    assert shown([refused, probe(step=None)]) == {"ledger": []}


def test_before_there_is_a_reference_the_ledger_is_all():
    studies = shown([probe()], Frame(**{**vars(FRAME), "reference": None, "shares": {"prototyping": (0.0, 1.0)}}))
    assert list(studies) == ["ledger"]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [optuna.samplers.GPSampler(seed=0), optuna.samplers.TPESampler(seed=0)])
def test_optunas_samplers_can_go_on_from_it(sampler):
    storage = InMemoryStorage()
    probes = [probe(knobs, graphs, Status.OUT_OF_MEMORY if graphs > 20 else Status.OK)
              for knobs in KNOBS for graphs in (4, 12, 28)]  # fmt: skip
    fill_studies(probes, FRAME, storage)
    study = optuna.load_study(study_name=FRAME.name("prototyping"), storage=storage, sampler=sampler)
    assert len(study.trials) > 10
    trial = study.ask(study.trials[0].distributions)
    assert trial.params["layers"] in range(2, 6)


# ------------------------------------------------------------------------------------------------------ where it is


PROBES = [probe(), probe(KNOBS[5], 8), probe(KNOBS[8], 16, Status.OUT_OF_MEMORY), probe(KNOBS[3], 2, Status.TIMED_OUT)]


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    """The bytes of a journal, and the trials in it."""
    path = tmp_path_factory.mktemp("journal") / "j.log"
    assert write_study(PROBES, FRAME, path) == 4
    return path.read_bytes(), {of: essence(trials) for of, trials in in_journal(path).items()}


def assert_whole(path, journal):
    assert {of: essence(trials) for of, trials in in_journal(path).items()} == journal[1]
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name]


def test_a_journal_holds_what_was_shown(journal):
    assert {of: len(trials) for of, trials in journal[1].items()} == {"ledger": 4, "prototyping": 4, "validation": 1}


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_journal_cut_anywhere_is_rebuilt(tmp_path_factory, journal, data):
    path = tmp_path_factory.mktemp("cut") / "j.log"
    path.write_bytes(journal[0][: data.draw(st.integers(0, len(journal[0])))])
    check_storage(path)
    write_study(PROBES, FRAME, path)
    assert_whole(path, journal)


def test_any_start_of_a_journal_is_ours(tmp_path, journal):
    path = tmp_path / "j.log"
    for n_bytes in range(journal[0].index(b"\n") + 3):
        path.write_bytes(journal[0][:n_bytes])
        check_storage(path)


@pytest.mark.parametrize("content", [b"\x00\xff" * 99, b"{}\n" * 9, b'{"op_code":9}\nnonsense\n', b""])
def test_a_broken_journal_is_rebuilt(tmp_path, journal, content):
    path = tmp_path / "j.log"
    path.write_bytes(content)
    write_study(PROBES, FRAME, path)
    assert_whole(path, journal)


def test_an_interrupt_while_writing_leaves_the_old_journal(tmp_path, monkeypatch, journal):
    path = tmp_path / "j.log"
    path.write_bytes(journal[0])

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage_module, "fill_studies", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_study(PROBES, FRAME, path)
    assert path.read_bytes() == journal[0]
    assert_whole(path, journal)


@pytest.mark.slow
def test_a_database_keeps_the_studies_of_others(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    check_storage(url)
    optuna.create_study(study_name="mine", storage=url)
    write_study(PROBES, FRAME, url)
    write_study(PROBES[:2], FRAME, url)
    assert {of: len(trials) for of, trials in trials_in(url).items()} == {
        "ledger": 2,
        "mine": 0,
        "prototyping": 2,
    }


def test_optuna_says_nothing_and_is_left_as_it_was(tmp_path, capfd):
    before = optuna.logging.get_verbosity()
    write_study(PROBES, FRAME, tmp_path / "j.log")
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


EXAMPLE = "For example --storage sqlite:///study.db, or the path of a journal file."


def refused(storage):
    with pytest.raises(InputError) as caught:
        check_storage(storage)
    return str(caught.value)


@pytest.mark.parametrize(
    "content", [b"notes\n", b"notes", b'{"op_code":0,"worker_id":"1","study_name":"mine"}\n', b"[1]\n", b"\n"]
)
def test_a_file_that_is_not_ours_is_not_replaced(tmp_path, content):
    path = tmp_path / "notes"
    path.write_bytes(content)
    assert refused(str(path)) == (
        f"storage {path}: got a file that Compass did not write; expected a new file, or the journal of an earlier run. "
        "Choose another --storage."
    )


def test_a_journal_that_cannot_be_written(tmp_path):
    tail = "expected a file in a writable folder. Choose another --storage."
    assert refused(str(tmp_path)) == f"storage {tmp_path}: got Is a directory; {tail}"
    lost = tmp_path / "no" / "j.log"
    assert refused(str(lost)) == f"storage {lost}: got No such file or directory; {tail}"
    with pytest.raises(InputError) as caught:
        write_study(PROBES, FRAME, lost)
    assert str(caught.value) == f"storage {lost}: got No such file or directory; {tail}"


def test_a_database_that_cannot_be_opened(tmp_path):
    url = f"sqlite:///{tmp_path}/no/study.db"
    told = f"got (sqlite3.OperationalError) unable to open database file; expected a database that Optuna can open. {EXAMPLE}"
    assert refused(url) == f"storage {url}: {told}"
    with pytest.raises(InputError) as caught:
        write_study(PROBES, FRAME, url)
    assert str(caught.value) == f"storage {url}: {told}"


def test_a_password_stays_secret():
    assert refused("nothing://me:secret@host/db") == (
        "storage nothing://me:***@host/db: got Can't load plugin: sqlalchemy.dialects:nothing; "
        f"expected a database that Optuna can open. {EXAMPLE}"
    )


@pytest.mark.slow
def test_the_dashboard_lists_the_studies(tmp_path):
    """For whoever has it: `pip install optuna-dashboard`."""
    pytest.importorskip("optuna_dashboard")
    path = tmp_path / "j.log"
    write_study(PROBES, FRAME, path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = "from optuna_dashboard._cli import main; main()"
    dashboard = subprocess.Popen(
        [sys.executable, "-c", start, str(path), "--port", str(port), "--server", "wsgiref"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        page = answer(f"http://127.0.0.1:{port}/api/studies")
    finally:
        dashboard.terminate()
        dashboard.wait(10)
    for of in ("ledger", "prototyping", "validation"):
        assert f'"study_name": "{FRAME.name(of)}"' in page


def answer(url, patience_s=60):
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own
                return response.read().decode()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def test_a_journal_that_is_being_written_is_not_beside_the_ledger(tmp_path, monkeypatch):
    """A process that is killed meanwhile would leave a folder there."""
    seen = []

    def fill(*given):
        seen.append(list(tmp_path.iterdir()))
        return fill_studies(*given)

    monkeypatch.setattr(storage_module, "fill_studies", fill)
    write_study(PROBES, FRAME, tmp_path / "journal.log")
    assert seen == [[]]
    assert [path.name for path in tmp_path.iterdir()] == ["journal.log"]
