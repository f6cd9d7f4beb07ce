import mmap
import sys

import pytest

from compass.device.ceiling import Ceiling
from compass.device.hardware import detect
from compass.device.meter import AcceleratorMeter, CpuMeter, meter_for

GIB = 1024**3
MIB = 1024**2
SIZE = 64 * MIB
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def open_meter(fakes, *gpus, kind="cuda", **nvml):
    torch, library = fakes.torch(**{kind: gpus}), fakes.Nvml(gpus, **nvml)
    hardware = detect(kind, limit_bytes=None, reserve_share=0.0, torch=torch, nvml=library)
    return meter_for(f"{kind}:0", hardware, torch=torch, nvml=library)


# -------------------------------------------------------------------------------------------------- the CPU


def test_the_footprint_is_the_peak_and_what_is_private_but_untouched(root):
    root.process(data=1000, rss=500, file=100, peak_rss=500)
    meter = CpuMeter(root=root.path)
    assert meter.footprint_bytes() == 1100 * 1024
    root.process(data=1000, rss=500, file=100, peak_rss=900)  # 600 untouched beside a peak of 900
    assert meter.footprint_bytes() == 1500 * 1024


def test_a_sample_is_remembered_until_the_peak_is_reset(root):
    root.process(data=2000, rss=500, file=100, peak_rss=500)
    meter = CpuMeter(root=root.path)
    meter.sample()
    root.process(data=700, rss=500, file=100, peak_rss=500)
    assert meter.footprint_bytes() == 2100 * 1024
    meter.reset_peak()
    assert meter.footprint_bytes() == 800 * 1024


def test_swapping_out_is_a_spill(root):
    root.process(data=1000, rss=500, swap=100_000)
    meter = CpuMeter(root=root.path)
    root.process(data=1000, rss=500, swap=150_000)
    assert not meter.spilled()
    root.process(data=1000, rss=500, swap=200_000)
    assert meter.spilled()
    meter.reset_peak()
    assert not meter.spilled()


@linux
def test_a_peak_between_two_looks_is_seen():
    meter = CpuMeter()
    meter.reset_peak()
    before = meter.footprint_bytes()
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        for start in range(0, SIZE, 4096):
            block[start] = 1
    assert meter.footprint_bytes() - before >= SIZE * 0.95
    assert meter.peak_live_bytes() is None


# ----------------------------------------------------------------------------------------------- accelerators


@pytest.mark.parametrize("sees_us", [True, False])
def test_footprint_is_peak_reserved_and_context(fakes, sees_us):
    gpu = fakes.Device(context=512 * MIB)
    meter = open_meter(fakes, gpu, sees_us=sees_us)
    gpu.hold(3 * GIB, live=2 * GIB)
    gpu.hold(1 * GIB)
    assert meter.footprint_bytes() == 3 * GIB + 512 * MIB
    assert meter.peak_live_bytes() == 2 * GIB
    meter.reset_peak()
    assert meter.footprint_bytes() == 1 * GIB + 512 * MIB


@pytest.mark.parametrize("sees_us", [True, False])
def test_the_context_grows_while_kernels_are_loaded(fakes, sees_us):
    gpu = fakes.Device(context=400 * MIB)
    meter = open_meter(fakes, gpu, sees_us=sees_us)
    gpu.context = 600 * MIB
    assert meter.footprint_bytes() == 600 * MIB


def test_another_process_that_comes_is_no_context_of_ours(fakes):
    gpu = fakes.Device(others=0, context=400 * MIB)
    for sees_us in (True, False):
        gpu.others, gpu.has_context = 0, False
        meter = open_meter(fakes, gpu, sees_us=sees_us)
        gpu.others = 8 * GIB
        assert meter.footprint_bytes() == 400 * MIB


def test_without_a_management_library_reserved_bytes_alone(fakes):
    gpu = fakes.Device(context=400 * MIB)
    meter = open_meter(fakes, gpu, works=False)
    gpu.hold(1 * GIB)
    assert meter.footprint_bytes() == 1 * GIB


def test_xpu_has_the_same_meter(fakes):
    gpu = fakes.Device(context=0)
    meter = open_meter(fakes, gpu, kind="xpu")
    gpu.hold(2 * GIB, live=1 * GIB)
    assert (meter.footprint_bytes(), meter.peak_live_bytes()) == (2 * GIB, 1 * GIB)


def test_synchronizing_and_emptying_reach_the_device(fakes):
    gpu = fakes.Device()
    meter = open_meter(fakes, gpu)
    waited = gpu.n_synchronized
    gpu.hold(2 * GIB, live=1 * GIB)
    meter.synchronize()
    meter.empty_cache()
    assert (gpu.n_synchronized - waited, gpu.n_emptied, gpu.reserved) == (1, 1, 1 * GIB)


@pytest.mark.parametrize(("silent", "spilled"), [(False, False), (True, True)])
def test_windows_moves_memory_to_the_host_when_others_fill_the_device(fakes, silent, spilled):
    gpu = fakes.Device(total=16 * GIB, others=4 * GIB, context=0)
    accelerator = open_meter(fakes, gpu)._accelerator
    meter = AcceleratorMeter(accelerator, others_bytes=4 * GIB, silent_spill=silent)
    gpu.hold(13 * GIB)
    assert meter.spilled() is spilled


def test_more_reserved_than_there_is_is_a_spill(fakes):
    gpu = fakes.Device(total=16 * GIB, others=0)
    meter = open_meter(fakes, gpu)
    gpu.hold(15 * GIB)
    assert not meter.spilled()
    gpu.hold(16 * GIB)  # and the context
    assert meter.spilled()


def test_mps_keeps_no_peaks_so_samples_do(fakes):
    mps = fakes.Mps(recommended=12 * GIB)
    torch = fakes.torch(mps=mps)
    hardware = detect("mps", limit_bytes=None, reserve_share=0.0, torch=torch)
    meter = meter_for("mps", hardware, torch=torch)
    mps.driver, mps.live = 5 * GIB, 4 * GIB
    meter.sample()
    mps.driver, mps.live = 2 * GIB, 1 * GIB
    assert (meter.footprint_bytes(), meter.peak_live_bytes()) == (5 * GIB, 4 * GIB)
    assert not meter.spilled()
    meter.reset_peak()
    assert (meter.footprint_bytes(), meter.peak_live_bytes()) == (2 * GIB, 1 * GIB)
    mps.driver = 13 * GIB  # what the driver gives beyond its own recommendation is paged
    assert meter.spilled()
    meter.empty_cache()
    assert mps.n_emptied == 1


def test_every_meter_gives_a_ceiling(fakes):
    gpu, mps = fakes.Device(), fakes.Mps()
    torch = fakes.torch(mps=mps)
    hardware = detect("mps", limit_bytes=None, reserve_share=0.0, torch=torch)
    for meter in (CpuMeter(), open_meter(fakes, gpu), meter_for("mps", hardware, torch=torch)):
        assert isinstance(meter.ceiling(8 * GIB), Ceiling)
