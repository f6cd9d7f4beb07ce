"""The findings of a check in the words of its workload."""

from compass.cost.observation import Probe
from compass.optimizer_config import OptimizerConfig
from compass.probe.requests import timing_probe
from compass.records import Batch, Knobs, Load, Outcome, RuntimeSettings, Status
from compass.workload_check.report import Fit
from compass.workload_check.words import about_loads, about_sums

ONE = Load(graphs=1, sizes=(("pixels", 784.0),))


def test_a_load_that_is_no_sum_is_told_in_the_workloads_words():
    batch = Batch(members=(("a", 2),))
    spec = timing_probe(
        OptimizerConfig().probe, Knobs(layers=1, channels=8), batch, RuntimeSettings(threads=1), on_cpu=True
    )
    for noun, says in (
        ("images", "`load` returns 1 image, 784 pixels, but the samples sum to 2 images, 1,568 pixels."),
        ("", "`load` returns 1 graph, 784 pixels, but the samples sum to 2 graphs, 1,568 pixels."),
    ):
        [found] = about_sums([Probe(spec, Outcome(status=Status.OK, load=ONE))], {"a": ONE}, noun)
        assert found.text == f"{says} Batches are chosen by sums"
    assert about_sums([Probe(spec, Outcome(status=Status.OK, load=ONE * 2))], {"a": ONE}, "images") == []


def test_a_missing_count_of_samples_is_advised():
    fit = Fit(median=0.1, worst=0.2, n=5, without=(), missing="samples", with_missing=0.001)
    assert "samples explains it" in about_loads(fit, 1).text
    assert about_loads(fit, 1).text.endswith("Declare a size that is 1 for every sample")
