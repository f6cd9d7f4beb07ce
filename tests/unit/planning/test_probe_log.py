"""The probe log of a profile: this run's probes, and the earlier ones of stages that it did not decide."""

import pytest

from compass.planning.probe_log import probe_log
from compass.planning.prober import Probed
from compass.records import Batch, Expectation, Knobs, Outcome, ProbeNote, ProbeSpec, RuntimeSettings, Status, Variant

KNOBS = Knobs(layers=2, channels=32, variant=Variant(precision="bf16", checkpointing=True))


def probed(stage, *, fresh=False, **given):
    spec = ProbeSpec(
        knobs=KNOBS,
        batches=(Batch(members=(("one", 1),)),),
        min_steps=1,
        max_steps=1,
        timeout_s=1,
        fresh=fresh,
        runtime=RuntimeSettings(threads=1),
    )
    outcome = Outcome(status=Status.OK, live_bytes=1, footprint_bytes=2)
    return Probed(
        **{
            "spec": spec,
            "outcome": outcome,
            "expected": None,
            "reused": False,
            "phase": "certify",
            "stage": stage,
            **given,
        }
    )


def earlier(stage):
    return ProbeNote(layers=2, channels=32, key="earlier", phase="certify", stage=stage, status="ok")


def stages(notes):
    return [(note.stage, note.key == "earlier") for note in notes]


def test_probes_of_stages_that_were_not_decided_stay():
    before = [earlier(None), earlier("prototyping"), earlier("validation")]
    now = [probed(None), probed("prototyping"), probed("validation")]
    # The prototyping stage was searched, but its plan is still the earlier one.
    decided = probe_log(before, now, "validation", on_cpu=True)
    assert stages(decided) == [(None, False), ("prototyping", True), ("validation", False)]
    assert stages(probe_log(decided, now, "prototyping", on_cpu=True)) == [
        (None, False), ("validation", False), ("prototyping", False),
    ]  # fmt: skip


def test_a_note_is_of_its_probe():
    expected = Expectation(live_bytes=1.0, footprint_bound_bytes=3.0)
    one = probed("validation", expected=expected, reused=True)
    (note,) = probe_log([], [one], "validation", on_cpu=False)
    assert (note.layers, note.channels, note.precision, note.checkpointing) == (2, 32, "bf16", True)
    assert (note.key, note.phase, note.stage, note.status) == (one.spec.key, "certify", "validation", Status.OK)
    assert (note.expected, note.reused, note.live_bytes, note.footprint_bytes) == (expected, True, 1, 2)


@pytest.mark.parametrize(("fresh", "on_cpu", "footprint"), [(True, True, 2), (False, True, None), (False, False, 2)])
def test_on_a_cpu_only_a_fresh_process_tells_its_footprint(fresh, on_cpu, footprint):
    (note,) = probe_log([], [probed(None, fresh=fresh)], "validation", on_cpu=on_cpu)
    assert note.footprint_bytes == footprint
