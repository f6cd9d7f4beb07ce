"""Time and memory behave as on real devices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compass.probe.simulation import MACHINES, SimulatedRunner, load_of, machine_named
from compass.records import Knobs, Variant

GIB = 1024**3
POCKET = load_of(400, 11_000)


def knobs(layers: int, channels: int, **variant) -> Knobs:
    return Knobs(layers=layers, channels=channels, variant=Variant(**variant))


def test_there_are_machines_from_a_laptop_to_a_datacentre():
    assert len(MACHINES) >= 8
    assert len({machine.name for machine in MACHINES}) == len(MACHINES)
    assert min(machine.total_bytes for machine in MACHINES) == 6 * GIB
    assert max(machine.total_bytes for machine in MACHINES) == 80 * GIB
    assert any(machine.spills for machine in MACHINES)
    with pytest.raises(KeyError):
        machine_named("Abacus")


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_more_layers_and_more_work_take_longer_and_hold_more(machine):
    runner = SimulatedRunner(machine)
    by_depth = [knobs(layers, 64) for layers in (2, 3, 5, 8)]
    by_width = [knobs(4, channels) for channels in (32, 64, 128, 256)]
    for family in (by_depth, by_width):
        times = [runner.true_step_s(k, POCKET * 4) for k in family]
        assert times == sorted(times)
        live = [runner.true_live_bytes(k, POCKET * 4) for k in family]
        assert live == sorted(live)
    loads = np.arange(1, 200)
    steps = runner.true_steps_s(knobs(4, 64), 400.0 * loads, 11_000.0 * loads)
    # Whole waves make single steps back possible on real devices too, but small ones.
    assert np.all(np.diff(steps) > -0.02 * steps[:-1])
    assert steps[-1] > 3 * steps[0]


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(
    layers=st.integers(2, 9), channels=st.integers(1, 12), nodes=st.integers(50, 3000), degree=st.integers(8, 32),
    precision=st.sampled_from(["fp32", "bf16"]), checkpointing=st.booleans(),
)  # fmt: skip
def test_live_bytes_grow_with_the_load_and_fit_what_is_reserved(
    layers, channels, nodes, degree, precision, checkpointing
):
    runner = SimulatedRunner(MACHINES[0])
    k = knobs(layers, 16 * channels, precision=precision, checkpointing=checkpointing)
    small, large = load_of(nodes, nodes * degree), load_of(nodes + 50, (nodes + 50) * degree)
    assert runner.true_live_bytes(k, small) < runner.true_live_bytes(k, large)
    assert runner.true_live_bytes(k, small) + runner.machine.context_bytes <= runner.true_footprint_bytes(k, small)


def test_checkpointing_saves_memory_and_costs_time():
    runner = SimulatedRunner(machine_named("RTX 3090"))
    plain, checkpointed = knobs(6, 128), knobs(6, 128, checkpointing=True)
    load = POCKET * 4
    assert runner.true_live_bytes(checkpointed, load) < 0.5 * runner.true_live_bytes(plain, load)
    assert 1.1 < runner.true_step_s(checkpointed, load) / runner.true_step_s(plain, load) < 1.6


def test_bf16_saves_memory_and_time_where_the_hardware_has_it():
    for name, faster in (("A100", True), ("Tesla T4", False)):
        runner = SimulatedRunner(machine_named(name))
        wide, narrow = knobs(6, 128), knobs(6, 128, precision="bf16")
        load = POCKET * 6
        assert runner.true_live_bytes(narrow, load) < 0.8 * runner.true_live_bytes(wide, load)
        assert (runner.true_step_s(narrow, load) < 0.75 * runner.true_step_s(wide, load)) == faster


def test_channels_that_fill_tiles_badly_pay():
    runner = SimulatedRunner(machine_named("RTX 3090"))
    per_channel = {c: runner.true_step_s(knobs(4, c), POCKET * 8) / c for c in (128, 144, 160, 192)}
    assert per_channel[144] > 1.05 * per_channel[128]
    assert per_channel[144] > 1.01 * per_channel[160] > 1.01 * per_channel[192]


def test_small_steps_are_the_hosts_and_large_ones_the_devices():
    runner = SimulatedRunner(machine_named("A100"))
    k = knobs(4, 32)
    tiny, small, large = (runner.true_step_s(k, load_of(n, 9 * n)) for n in (50, 200, 400_000))
    assert small == pytest.approx(tiny, rel=0.02)
    assert large > 20 * tiny


def test_a_faster_device_is_faster():
    steps = [SimulatedRunner(machine_named(name)).true_step_s(knobs(6, 128), POCKET * 4)
             for name in ("RTX 3060 Laptop", "RTX 3090", "A100", "H100")]  # fmt: skip
    assert steps == sorted(steps, reverse=True)


def test_the_peak_moves_with_the_configuration():
    runner = SimulatedRunner(machine_named("A100"))

    def place(k, load):
        segments = runner._memory(k, load).segments
        return max(segments, key=lambda segment: segment[1])[0]

    places = {
        place(knobs(6, 128), POCKET),
        place(knobs(6, 128, checkpointing=True), POCKET * 8),
        place(knobs(9, 256), load_of(20, 100)),
    }
    assert len(places) == 3
    assert "optimizer" in places


def test_fragmentation_is_there_and_bounded():
    runner = SimulatedRunner(machine_named("A100"))
    ratios = []
    for layers, channels in ((3, 64), (6, 128), (9, 112)):
        for copies in (1, 5, 13):
            load = POCKET * copies
            k = knobs(layers, channels)
            reserved = runner.true_footprint_bytes(k, load) - runner.machine.context_bytes
            ratios.append(reserved / runner.true_live_bytes(k, load))
    assert 1.02 < np.median(ratios) < max(ratios) < 1.6


def test_what_tensors_ask_for_is_affine_in_the_load_and_what_blocks_hold_only_nearly():
    def bend(counted):  # on Windows, where large blocks are not split to size
        runner = SimulatedRunner(machine_named("RTX 3060 Laptop"), counted=counted)
        first, middle, last = (runner.true_live_bytes(knobs(4, 64), POCKET * copies) for copies in (2, 5, 8))
        return abs(middle - (first + last) / 2) / middle

    assert bend("requested") < 1e-6
    assert bend("allocated") > 1e-5
