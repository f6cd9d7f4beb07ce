import resource
import subprocess
import sys

import pytest

from compass.device.ceiling import CeilingTooLow, DataCeiling, cpu_ceiling
from compass.device.hardware import detect
from compass.device.meter import meter_for
from compass.device.process import process_memory
from compass.errors import InputError

GIB = 1024**3
MIB = 1024**2
linux = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is enforced on Linux only")


@pytest.fixture
def limits(monkeypatch):
    """The process's RLIMIT_DATA as a pair that the code may change without consequences."""
    held = [(resource.RLIM_INFINITY, resource.RLIM_INFINITY)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: held[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: held.append(pair))
    return held


def test_file_backed_pages_are_subtracted_and_the_hard_limit_stays(root, limits):
    root.process(data=500, rss=400, file=100)
    ceiling = DataCeiling(1000 * 1024, root=root.path)
    assert not ceiling.enforced
    with ceiling:
        assert limits[-1] == (900 * 1024, resource.RLIM_INFINITY)
        assert ceiling.enforced
    assert limits[-1] == limits[0]
    assert not ceiling.enforced


def test_lifting_twice_and_after_an_error(root, limits):
    root.process(data=500, rss=400, file=100)
    ceiling = DataCeiling(1000 * 1024, root=root.path)
    with pytest.raises(ZeroDivisionError), ceiling:
        raise ZeroDivisionError
    ceiling.lift()
    assert len(limits) == 3  # as it was, imposed, lifted once


@pytest.mark.parametrize("position", [0, 1])
def test_a_lower_limit_that_is_there_stays(root, limits, position):
    root.process(data=500, rss=400, file=100)
    present = [resource.RLIM_INFINITY] * 2
    present[position] = 600 * 1024
    limits[:] = [tuple(present)]
    with DataCeiling(1000 * 1024, root=root.path):
        assert limits[-1][0] == 600 * 1024
    assert limits[-1] == tuple(present)


def test_a_ceiling_below_what_is_held_is_refused(root, limits):
    root.process(data=500 * 1024, rss=400 * 1024, file=100 * 1024)
    with pytest.raises(CeilingTooLow) as caught:
        DataCeiling(600 * MIB, root=root.path).impose()
    assert isinstance(caught.value, InputError)
    assert str(caught.value) == (
        "memory limit: got 600.00 MiB; expected more than the 600.00 MiB that the idle worker already holds. "
        "Raise the limit."
    )
    assert len(limits) == 1


def test_elsewhere_nothing_is_enforced(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with cpu_ceiling(1 * GIB) as ceiling:
        assert not ceiling.enforced


REAL = """
from compass.device.ceiling import cpu_ceiling
from compass.device.process import process_memory
held = process_memory().footprint_bytes
blocks = []
with cpu_ceiling(held + 128 * 2**20) as ceiling:
    assert ceiling.enforced
    try:
        while True:
            blocks.append(b"x" * 2**22)
    except MemoryError:
        print(process_memory().footprint_bytes - held)
blocks.append(b"x" * 2**28)
print("lifted")
"""


@linux
def test_a_real_ceiling_holds_close_and_can_be_lifted():
    done = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, timeout=60, check=True)
    grown, lifted = done.stdout.split()
    assert 112 * MIB < int(grown) <= 128 * MIB
    assert lifted == "lifted"


@linux
def test_this_process_can_be_given_a_ceiling():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with cpu_ceiling(process_memory().footprint_bytes + 4 * GIB) as ceiling:
        assert ceiling.enforced
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


# ----------------------------------------------------------------------------------------------- accelerators


def open_meter(fakes, gpu):
    torch, nvml = fakes.torch(cuda=[gpu]), fakes.Nvml([gpu])
    hardware = detect("cuda", limit_bytes=None, reserve_share=0.0, torch=torch, nvml=nvml)
    return meter_for("cuda:0", hardware, torch=torch, nvml=nvml)


def test_the_allocator_gets_the_ceiling_less_the_context(fakes):
    gpu = fakes.Device(total=16 * GIB, context=1 * GIB)
    with open_meter(fakes, gpu).ceiling(5 * GIB) as ceiling:
        assert ceiling.enforced
        assert gpu.fraction == 0.25
        gpu.hold(4 * GIB)
        with pytest.raises(RuntimeError, match="out of memory"):
            gpu.hold(5 * GIB)
    assert gpu.fraction == 1.0


def test_a_ceiling_above_the_device_is_the_device(fakes):
    gpu = fakes.Device(total=16 * GIB)
    with open_meter(fakes, gpu).ceiling(99 * GIB):
        assert gpu.fraction == 1.0


def test_context_and_reserved_bytes_must_be_under_the_ceiling(fakes):
    gpu = fakes.Device(context=1 * GIB)
    meter = open_meter(fakes, gpu)
    gpu.hold(2 * GIB)
    with pytest.raises(CeilingTooLow, match=r"got 2\.50 GiB; expected more than the 3\.00 GiB"):
        meter.ceiling(int(2.5 * GIB)).impose()
    assert gpu.fraction == 1.0


def test_a_torch_without_a_limit_enforces_nothing(fakes):
    gpu = fakes.Device()
    meter = open_meter(fakes, gpu)
    meter._accelerator._module = object()
    with meter.ceiling(5 * GIB) as ceiling:
        assert not ceiling.enforced


def test_mps_gets_its_own_watermark_back(fakes):
    mps = fakes.Mps(recommended=10 * GIB)
    torch = fakes.torch(mps=mps)
    hardware = detect("mps", limit_bytes=None, reserve_share=0.0, torch=torch)
    with meter_for("mps", hardware, torch=torch).ceiling(5 * GIB) as ceiling:
        assert ceiling.enforced
        assert mps.fraction == 0.5
    assert mps.fraction == 1.7


def test_a_ceiling_on_an_accelerator_follows_its_context(fakes):
    gpu = fakes.Device(context=GIB // 2)
    with open_meter(fakes, gpu).ceiling(5 * GIB) as ceiling:
        assert gpu.fraction * gpu.total == pytest.approx(4.5 * GIB)
        gpu.context = GIB  # the first step loads kernels
        ceiling.tighten()
        assert gpu.fraction * gpu.total == pytest.approx(4 * GIB)
    ceiling.tighten()
    assert gpu.fraction == 1.0
