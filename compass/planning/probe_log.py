"""The probe log: every probe of a run beside its prediction, as the profile keeps it."""

from __future__ import annotations

from collections.abc import Iterable

from compass.planning.prober import Probed
from compass.records import ProbeNote, Stage


def probe_log(
    earlier: Iterable[ProbeNote], probed: Iterable[Probed], decided: Stage, *, on_cpu: bool
) -> tuple[ProbeNote, ...]:
    """This run's probes of the calibration and of the stage it has just `decided`, with the `earlier` ones of other stages."""
    now = [note(one, on_cpu=on_cpu) for one in probed]
    others = [one for one in earlier if one.stage not in {None, decided}]
    return (*(one for one in now if one.stage is None), *others, *(one for one in now if one.stage == decided))


def note(probed: Probed, *, on_cpu: bool) -> ProbeNote:
    """One probe as the profile keeps it.

    On a CPU, a process goes on holding the memory of its earlier probes, so only a fresh one's footprint is kept.
    """
    spec, outcome = probed.spec, probed.outcome
    return ProbeNote.of(
        spec.knobs,
        key=spec.key,
        phase=probed.phase,
        stage=probed.stage,
        load=outcome.step_load,
        expected=probed.expected,
        reused=probed.reused,
        status=outcome.status,
        detail=outcome.detail,
        live_bytes=outcome.live_bytes,
        footprint_bytes=outcome.footprint_bytes if spec.fresh or not on_cpu else None,
        step=outcome.step,
        wall_s=outcome.wall_s,
    )
