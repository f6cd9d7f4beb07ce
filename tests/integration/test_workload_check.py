"""The check finds whether the cost model applies to a workload, and names the fault if it does not."""

from pathlib import Path

import pytest

from compass.optimizer_config import OptimizerConfig, RuntimeRules
from compass.workload_check.checkup import check_workload

FILE = Path(__file__).parent / "sequences.py"
FEW = OptimizerConfig().probe.model_copy(
    update={
        "anchor_steps": (3, 3), "anchor_steps_cpu": (3, 3),
        "micro_architectures": ((3, 16), (3, 32), (5, 16), (5, 32)),
        "extra_architectures": ((4, 48), (4, 64)),
        "more_architectures": ((4, 24), (6, 40)),
    }
)  # fmt: skip
CONFIG = OptimizerConfig(probe=FEW, runtime=RuntimeRules(threads=1))


def looked_at(name):
    return check_workload(f"{FILE}:{name}", CONFIG, device="cpu")


def texts(report, about):
    return [finding.text for finding in report.findings if finding.about == about]


@pytest.fixture(scope="module")
def honest():
    return looked_at("Honest")


def test_the_cost_model_applies_to_an_honest_workload(honest):
    assert honest.ok, honest.findings
    assert honest.verdict == "OK: the cost model applies"
    assert (honest.features, honest.n_samples, honest.failure) == (("tokens", "tokens_squared"), 5, "")
    assert honest.loads.worst < 0.01
    assert honest.loads.missing is None
    assert dict(honest.loads.without)["tokens_squared"] > 0.05
    assert honest.knobs.worst < 0.01
    [steps] = texts(honest, "steps")
    assert steps.startswith("equal steps give equal losses (")
    assert texts(honest, "parameters") == ["the counts of 6 models are right"]
    assert texts(honest, "side effects") == []


def test_an_undeclared_quadratic_term_is_caught():
    report = looked_at("Undeclared")
    assert not report.ok
    assert report.loads.missing == "tokens_squared"
    assert report.loads.with_missing < 0.01
    assert report.loads.worst > 0.03
    [text] = texts(report, "memory")
    assert text.startswith("does not follow the declared sizes: errors of ")
    assert text.endswith("tokens_squared explains it (worst 0.00%). Declare it as a size of every sample")


def test_padding_is_caught():
    report = looked_at("Padded")
    assert not report.ok
    assert report.loads.missing == "tokens, padded to the batch's largest"
    [text] = texts(report, "memory")
    assert 'If batches are padded to their longest member, declare `padded = "tokens"`' in text


def test_declared_padding_is_a_kind_of_load():
    report = looked_at("Declared")
    assert report.ok, report.findings
    assert report.loads.worst < 0.001
    [text] = texts(report, "padding")
    assert text.startswith("members are padded to the longest (tokens): a fixed batch is safe")


@pytest.fixture(scope="module")
def careless():
    return looked_at("Careless")


def test_steps_that_differ_are_named(careless):
    [steps] = texts(careless, "steps")
    assert steps.startswith("equal seeds give different losses: ")
    assert steps.endswith(". Seed all random draws in `build` and `collate`")


def test_parameters_that_come_late_are_named(careless):
    [text] = texts(careless, "parameters")
    assert text == (
        "3 layers × 16 channels, fp32 has 3,596 trainable parameters in a step, but 3,584 when built: `loss` or the first "
        "forward pass adds or freezes some. Do that in `build`"
    )
    assert not careless.ok


def test_memory_kept_from_one_step_to_the_next_is_named(careless):
    [text] = texts(careless, "side effects")
    assert text.startswith("held ")
    assert text.endswith(" more after a step than before it: something is kept from one step to the next")


def test_a_mistake_is_shown_where_it_is():
    report = looked_at("Broken")
    assert not report.ok
    assert report.n_probes == 1
    assert report.verdict == "NOT OK: the cost model does not apply (step)"
    assert report.failure.startswith(f'invalid: Traceback (most recent call last):\n  File "{FILE}", line ')
    assert report.failure.endswith("KeyError: 'lettres'")
    assert texts(report, "step") == ["a step did not run to its end; see below"]
