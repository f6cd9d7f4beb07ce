"""What may turn out better than a pick: other models, and the leading ones at other batches."""

from types import SimpleNamespace

import numpy as np
import pytest

from compass.planning import rivals as module
from compass.planning.rivals import losses_of, rivals, timings_of
from compass.records import Batch
from compass.stages import POLICIES

PRODUCTION, PROTOTYPING = POLICIES["production"], POLICIES["prototyping"]
LARGE, LEVEL, SMALL = (4, 64), (3, 64), (2, 32)


def models():
    capacities = {LARGE: 1000, LEVEL: 990, SMALL: 400}
    return {shape: {"capacity": n, "step_s": lambda graphs: graphs / 10} for shape, n in capacities.items()}


def found(known):
    knowledge = known(models())
    ranking = PRODUCTION.rank(knowledge)
    return knowledge, rivals(PRODUCTION, knowledge, ranking)


def test_production_compares_models_as_large_as_the_largest(known):
    _, choices = found(known)
    assert {(one.knobs.layers, one.knobs.channels) for one in choices} == {LARGE, LEVEL}


def test_leading_choices_are_looked_at_with_other_batches_too(known):
    knowledge, choices = found(known)
    batches = {one.batch_size for one in choices if one.knobs.layers == LARGE[0]}
    assert len(batches) > 2
    assert max(batches) <= knowledge.largest_batch(choices[0].knobs, knowledge.config.stages.production)
    assert min(batches) >= knowledge.config.batch.min_batch


def test_production_minimises_the_seconds_of_a_graph(known):
    knowledge, choices = found(known)
    step_s = np.array([[one.step_s] for one in choices])
    assert losses_of(PRODUCTION, knowledge, choices)(step_s)[:, 0] == pytest.approx([0.1] * len(choices))


def test_a_timed_stage_minimises_its_score_and_refuses_what_is_too_late(known):
    knowledge, choices = found(known)
    reference = choices[0]
    knowledge = known(models(), reference=reference)
    (loss,) = losses_of(PROTOTYPING, knowledge, [reference])(np.array([[reference.step_s, 1e9]]))
    assert loss[0] == pytest.approx(1.0, abs=0.2)
    assert np.isinf(loss[1])


def test_a_timing_is_offered_once_and_never_again(known, monkeypatch):
    knowledge, choices = found(known)
    spec = SimpleNamespace(key="spec", batches=(Batch(members=(("one", 8),)),))
    monkeypatch.setattr(module, "timing_spec", lambda *_, **__: spec)

    def offered(*made):
        runner = SimpleNamespace(probes=[(one, None) for one in made], keys={one.key for one in made})
        experiment = SimpleNamespace(known=lambda: knowledge, calibrated_allocator="fast", runner=runner)
        return list(timings_of(PRODUCTION, experiment, choices))

    assert [(probe.batch_size, one) for probe, one in offered()] == [(8, spec)] * 2  # one of each model
    assert offered(spec) == []


def test_what_fits_no_graph_is_not_timed(known, monkeypatch):
    knowledge, choices = found(known)
    monkeypatch.setattr(module, "timing_spec", lambda *_, **__: None)
    runner = SimpleNamespace(probes=[], keys=set())
    experiment = SimpleNamespace(known=lambda: knowledge, calibrated_allocator="fast", runner=runner)
    assert list(timings_of(PRODUCTION, experiment, choices)) == []
