"""The measurements that a run records in the ledger, and the runs that record none."""

import logging
from types import SimpleNamespace

import pytest

from compass.probe.store import LEDGER, Store
from compass.records import Affine, Batch, BytesLaw, Load, Status
from compass.training.ledger_feedback import LedgerFeedback, may_feed_back

LAW = BytesLaw(segments=(("step", Affine(base=0, per_unit=(("nodes", 1.0),))),))
LOADS = {name: Load(graphs=1, sizes=(("nodes", nodes),)) for name, nodes in (("a", 10.0), ("b", 20.0), ("c", 60.0))}


def batch(*names):
    return Batch(members=tuple((name, 1) for name in names))


@pytest.fixture
def run(profile, tmp_path):
    plan = profile.plans["prototyping"].model_copy(update={"bytes_law": LAW})
    spec = SimpleNamespace(
        cache=str(tmp_path), stale=False, ceiling=True, plan=plan, fingerprint=profile.fingerprint, budget_bytes=1000
    )  # fmt: skip
    meter = SimpleNamespace(obtainable_bytes=lambda: 1000)
    return SimpleNamespace(spec=spec, ranks=SimpleNamespace(n=1), data=SimpleNamespace(loads=LOADS), meter=meter)


def recorded(run, tmp_path):
    store = Store(tmp_path / LEDGER)
    known = store.under(run.spec.fingerprint.key)
    store.close()
    return known


def cycle_on(*names, n_batches=450, peak_bytes=1000):
    cycle = SimpleNamespace(n_batches=n_batches, peak_bytes=peak_bytes)
    loads = [(batch(name), LOADS[name]) for name in names]
    return cycle, SimpleNamespace(loads=loads, step_times=[0.1, 0.2, 0.3, 0.2, 0.2])


def test_a_cycle_is_recorded(run, tmp_path):
    LedgerFeedback(run).record_cycle(*cycle_on("a", "b"))
    [(spec, outcome)] = recorded(run, tmp_path)
    assert (spec.knobs, spec.runtime) == (run.spec.plan.choice.knobs, run.spec.plan.runtime)
    assert spec.batches == (batch("b"),)
    assert (outcome.source, outcome.load, outcome.footprint_bytes) == ("training", LOADS["b"], 1000)
    assert outcome.timed_load == Load(graphs=1, sizes=(("nodes", 15.0),))
    assert outcome.step.median_s == 0.2


def test_a_peak_belongs_to_the_fullest_batch_of_all_cycles(run, tmp_path):
    """Otherwise the peak would be attributed to the smaller batches of a later cycle."""
    feedback = LedgerFeedback(run)
    for names in (("a", "c"), ("a", "b")):
        feedback.record_cycle(*cycle_on(*names))
    assert [outcome.load for _, outcome in recorded(run, tmp_path)][-1] == LOADS["c"]


def test_a_short_cycle_is_not_recorded(run, tmp_path):
    LedgerFeedback(run).record_cycle(*cycle_on("a", n_batches=19))
    assert recorded(run, tmp_path) == []


def test_running_out_is_recorded(run, tmp_path):
    LedgerFeedback(run).record_out_of_memory(batch("a", "c"), "no room")
    [(spec, outcome)] = recorded(run, tmp_path)
    assert spec.ceiling_bytes == run.spec.plan.certificate.ceiling_bytes
    assert (outcome.status, outcome.detail, outcome.load) == (
        Status.OUT_OF_MEMORY, "no room", Load(graphs=2, sizes=(("nodes", 70.0),))
    )  # fmt: skip


def test_an_out_of_memory_without_a_ceiling_is_not_recorded(run, tmp_path):
    run.spec.ceiling = False
    LedgerFeedback(run).record_out_of_memory(batch("a"), "no room")
    assert recorded(run, tmp_path) == []


def test_an_out_of_memory_caused_by_other_programs_is_not_recorded(run, tmp_path):
    run.meter.obtainable_bytes = lambda: 999
    LedgerFeedback(run).record_out_of_memory(batch("a"), "no room")
    assert recorded(run, tmp_path) == []


def test_a_ledger_that_cannot_be_written_is_a_warning(run, tmp_path, caplog):
    (tmp_path / "file").touch()
    run.spec.cache = str(tmp_path / "file")
    with caplog.at_level(logging.WARNING, logger="compass"):
        LedgerFeedback(run).record_cycle(*cycle_on("a"))
    assert [record.message for record in caplog.records] == [
        f"this run is not recorded in the ledger: ledger {tmp_path}/file/{LEDGER}: got File exists; "
        "expected a file in a writable folder. Choose another --cache."
    ]


@pytest.mark.parametrize("change", [{"cache": ""}, {"stale": True}])
def test_runs_that_do_not_feed_back(run, change):
    assert may_feed_back(run)
    vars(run.spec).update(change)
    assert not may_feed_back(run)


def test_several_processes_do_not_feed_back(run):
    run.ranks.n = 2
    assert not may_feed_back(run)
