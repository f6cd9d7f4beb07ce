"""Whole runs by Optuna's samplers, and Optuna's study of whole runs, on simulated machines."""

import json
import logging
import re
import shutil
import subprocess
import sys
import textwrap

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from typer.testing import CliRunner

from compass import optimizer
from compass.cli.app import app
from compass.config_files import load_config
from compass.errors import InputError
from compass.optimizer import Request, optimize
from compass.planning import session
from compass.probe.simulation import SimulatedRunner, machine_named
from compass.profile import read_profile
from compass.records import Outcome, Status

SAMPLERS = ("gp", "tpe", "random", "grid")
STAGES = ("prototyping", "validation")
PLAIN = [f"stages.{stage}.checkpointing=[false]" for stage in (*STAGES, "production")]


class Watched:
    """A simulated machine whose questions are remembered and whose outcomes can be changed on their way back."""

    def __init__(self, change=lambda _, outcome: outcome):
        self._runner, self._change = SimulatedRunner(machine_named("RTX 4090")), change
        self.specs = []

    def describe(self, knobs=()):
        return self._runner.describe(knobs)

    def probe(self, spec):
        self.specs.append(spec)
        return self._change(spec, self._runner.probe(spec))

    def close(self):
        self._runner.close()

    def timed(self):
        """The models timed on real samples outside certificates."""
        return [spec.knobs for spec in self.specs if spec.batches[0].members and not spec.fresh]


def request(tmp_path, *changes, **given):
    return Request(config=load_config(None, changes), dataset_size=19_000, out=tmp_path / "p.json", **given)


def studies(path):
    storage = JournalStorage(JournalFileBackend(str(path)))
    return {
        name.rpartition("/")[2]: optuna.load_study(study_name=name, storage=storage)
        for name in optuna.get_all_study_names(storage)
    }


# ----------------------------------------------------------------------------------------------------- the samplers


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_best_of_what_a_sampler_timed_is_proven(tmp_path, sampler):
    machine = Watched()
    asked = request(tmp_path, f"search.sampler={sampler}", "search.sampler_trials=7", stages=STAGES)
    profile = optimize(asked, runner=machine)
    assert profile.failures == {}
    assert profile.probe_costs.out_of_memory == 0
    assert 2 <= profile.probe_costs.search_probes <= 14
    timed = machine.timed()
    for plan in profile.plans.values():
        assert {choice.knobs for choice in (plan.choice, *plan.runners_up, *plan.front)} <= set(timed)
        assert plan.certificate.batches[0].members[0][1] == plan.choice.batch_size
        assert plan.predicted.score <= min(choice.score for choice in plan.runners_up) * 1.01
    searched = [spec for spec in machine.specs[-profile.probe_costs.search_probes - 6 :] if not spec.fresh]
    assert len({spec.knobs for spec in searched}) == len(searched)


def test_ours_is_no_worse_for_a_third_of_the_probes(tmp_path):
    def scores(sampler):
        profile = optimize(request(tmp_path, f"search.sampler={sampler}"), runner=Watched())
        searched = [note for note in profile.probe_log if note.phase == "search" and note.stage in STAGES]
        return [profile.plans[stage].predicted.score for stage in STAGES], len(searched)

    ours, n_ours = scores("structured")
    for sampler in ("tpe", "random", "grid"):
        theirs, n_theirs = scores(sampler)
        assert all(score <= other * 1.011 for score, other in zip(ours, theirs, strict=True))
        assert n_ours <= n_theirs / 3


@pytest.fixture
def search():
    """A watcher, and whether what it was last told is a search."""
    phases = ["none"]
    return phases, lambda progress: phases.append(progress.phase)


def test_what_runs_out_or_crashes_while_sampled_is_not_chosen(tmp_path, search):
    phases, watch = search
    spoilt = {}

    def change(spec, outcome):
        if phases[-1] != "search" or len(spoilt) == 2:
            return outcome
        spoilt[spec.knobs] = Status.CRASHED if spoilt else Status.OUT_OF_MEMORY
        return Outcome(status=spoilt[spec.knobs], detail="made up")

    asked = request(tmp_path, *PLAIN, "search.sampler=grid", stages=("validation",), storage=str(tmp_path / "j.log"))
    profile = optimize(asked, runner=Watched(change), watch=watch)
    assert profile.plans["validation"].choice.knobs not in spoilt
    trials = studies(tmp_path / "j.log")["validation"].trials
    states = {trial.user_attrs["status"]: trial.state.name for trial in trials}
    assert states == {"ok": "COMPLETE", "out_of_memory": "COMPLETE", "crashed": "FAIL"}


def test_a_sampler_that_finds_nothing_says_that_others_would_do(tmp_path, search):
    phases, watch = search

    def change(_, outcome):
        return Outcome(status=Status.CRASHED, detail="made up") if phases[-1] == "search" else outcome

    asked = request(tmp_path, *PLAIN, "search.sampler=random", "search.sampler_trials=2", stages=("validation",))
    failure = optimize(asked, runner=Watched(change), watch=watch).failures["validation"]
    assert failure.limited_by == "search"
    assert re.fullmatch(
        r"none of the [12] models that the sampler tried is admissible; \d+ other models are predicted to be",
        failure.reason,
    )
    assert failure.nearest is not None


def test_a_name_that_is_no_sampler(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["optimize", "--sampler", "tpee"])
    assert result.exit_code == 2
    assert result.stderr == (
        "error: --sampler: got 'tpee'; expected 'structured', 'gp', 'tpe', 'random' or 'grid'. "
        "`compass config` shows every key with its reason.\n"
    )


# -------------------------------------------------------------------------------------------------------- the study


@pytest.fixture
def here(monkeypatch):
    """A simulated machine in this one's place, so that its probes are kept."""
    machines = []

    def make(*_):
        machines.append(Watched())
        return machines[-1]

    monkeypatch.setattr(session, "local_runner", make)
    return machines


def test_the_study_lies_beside_the_probes_and_shows_all_that_were_made(tmp_path, here):
    asked = request(tmp_path, *PLAIN, cache=tmp_path / "cache")
    profile = optimize(asked)
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["optuna_journal.log", "probes.jsonl"]
    shown = studies(tmp_path / "cache" / "optuna_journal.log")
    assert sorted(shown) == ["ledger", *STAGES]
    certified = {
        (trial.params["layers"], trial.params["channels"], trial.params["batch"])
        for trial in shown["ledger"].trials
        if trial.user_attrs["kind"] == "certificate"
    }
    for plan in profile.plans.values():
        assert (plan.choice.knobs.layers, plan.choice.knobs.channels, plan.choice.batch_size) in certified
    for stage in STAGES:
        plan = profile.plans[stage]
        measured = [t for t in shown[stage].trials if t.params["batch"] == plan.choice.batch_size]
        assert any(t.user_attrs["throughput"] == pytest.approx(plan.measured.throughput) for t in measured)
    optimize(request(tmp_path, *PLAIN, cache=tmp_path / "cache", stages=("smoke_test",)))
    assert here[1].specs == []
    again = studies(tmp_path / "cache" / "optuna_journal.log")
    assert [t.values for t in again["ledger"].trials] == [t.values for t in shown["ledger"].trials]


@pytest.mark.parametrize("content", [b"nonsense", b'{"op_code":0,'])
def test_a_broken_journal_costs_nothing(tmp_path, here, content):
    journal = tmp_path / "optuna_journal.log"
    journal.write_bytes(content)
    assert optimize(request(tmp_path, *PLAIN, cache=tmp_path, stages=("smoke_test",))).failures == {}
    assert "ledger" in studies(journal)


def stops(when):
    """Interrupts at the first probe that `when` is true of."""

    def change(spec, outcome):
        if when(spec):
            raise KeyboardInterrupt
        return outcome

    return change


@pytest.mark.parametrize(
    ("when", "kinds", "studies_of"),
    [
        (lambda spec: spec.batches[0].members, set(), ["ledger"]),
        (lambda spec: spec.fresh, {"timing"}, ["ledger"]),
    ],
    ids=["calibrating", "confirming"],
)
def test_an_interrupted_run_shows_what_it_had(tmp_path, when, kinds, studies_of):
    with pytest.raises(KeyboardInterrupt):
        optimize(request(tmp_path, storage=str(tmp_path / "j.log")), runner=Watched(stops(when)))
    shown = studies(tmp_path / "j.log")
    assert list(shown) == studies_of
    assert {trial.user_attrs["kind"] for trial in shown["ledger"].trials} == kinds


def test_a_study_that_cannot_be_written_costs_only_a_warning(tmp_path, caplog):
    place = tmp_path / "place"
    place.mkdir()

    def change(_, outcome):
        shutil.rmtree(place, ignore_errors=True)
        return outcome

    asked = request(tmp_path, *PLAIN, stages=("smoke_test",), storage=str(place / "j.log"))
    with caplog.at_level(logging.WARNING):
        optimize(asked, runner=Watched(change))
    assert "smoke_test" in read_profile(asked.out).plans
    assert [record.getMessage() for record in caplog.records if "Optuna" in record.getMessage()] == [
        f"Optuna's study could not be written: storage {place / 'j.log'}: got No such file or directory; "
        "expected a file in a writable folder. Choose another --storage."
    ]


def test_a_storage_that_cannot_be_used_is_refused_before_anything_is_measured(tmp_path):
    machine = Watched()
    with pytest.raises(InputError, match=r"^storage .*: got Is a directory; expected a file in a writable folder\."):
        optimize(request(tmp_path, storage=str(tmp_path)), runner=machine)
    assert machine.specs == []


def loads(tmp_path, sampler, **given):
    """Whether a run in a fresh interpreter has imported Optuna when its last probe is made, and when it is over."""
    code = f"""
        import sys
        from pathlib import Path
        from compass.config_files import load_config
        from compass.optimizer import Request, optimize
        from compass.probe.simulation import SimulatedRunner, machine_named

        seen = []
        class Spy(SimulatedRunner):
            def probe(self, spec):
                seen[:] = ["optuna" in sys.modules]
                return super().probe(spec)

        config = load_config(None, {[*PLAIN, f"search.sampler={sampler}", "search.sampler_trials=1"]!r})
        asked = Request(config=config, out=Path({str(tmp_path / "p.json")!r}), stages=("prototyping",), **{given!r})
        optimize(asked, runner=Spy(machine_named("RTX 4090")))
        print(*seen, "optuna" in sys.modules, "torch" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    return done.stdout.split()


def test_optuna_is_loaded_only_to_write_the_study(tmp_path):
    assert loads(tmp_path, "structured") == ["False", "False", "False"]
    assert loads(tmp_path, "structured", storage="j.log") == ["False", "True", "False"]
    assert loads(tmp_path, "random") == ["True", "True", "False"]


def test_the_flags_reach_the_request(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []

    def fake(given, **_):
        asked.append(given)
        raise InputError("a test", got="enough", expected="no more", fix="Stop.")

    monkeypatch.setattr(optimizer, "optimize", fake)
    result = CliRunner().invoke(app, ["optimize", "--sampler", "tpe", "--storage", "sqlite:///s.db"])
    assert result.exit_code == 2
    assert asked == [Request(config=load_config(None, ["search.sampler=tpe"]), storage="sqlite:///s.db")]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "at most 3 timing probes per stage"),
        (("--sampler", "gp"), "12 trials per stage by Optuna's gp sampler"),
    ],
)
def test_a_dry_run_says_how_it_would_search(tmp_path, monkeypatch, flags, said):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["optimize", "--dry-run", "--json", *flags])
    assert json.loads(result.stdout)["search"] == said
