"""Stand-ins for torch and for NVIDIA's management library."""

# ruff: noqa: N802 - NVIDIA's library names its functions so

import sys
from types import SimpleNamespace

import pytest

from compass.doctor.driver import NvidiaDevice, NvidiaDriver, nvidia_driver
from compass.doctor.torch_build import TorchBuild, describe_torch, installed_torch


def fake_torch(*, cuda=None, hip=None, n_devices=0):
    device = SimpleNamespace(name="Fake GPU")
    return SimpleNamespace(
        __version__="2.13.0+fake",
        version=SimpleNamespace(cuda=cuda, hip=hip),
        cuda=SimpleNamespace(
            is_available=lambda: n_devices > 0, device_count=lambda: n_devices, get_arch_list=lambda: ["sm_80", "sm_90"],
            get_device_properties=lambda index: device, get_device_capability=lambda index: (9, index),
        ),
        xpu=SimpleNamespace(is_available=lambda: False),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
    )  # fmt: skip


def test_a_build_for_the_cpu():
    assert describe_torch(fake_torch()) == TorchBuild(version="2.13.0+fake", devices=("cpu",))


def test_a_build_for_cuda_with_devices():
    assert describe_torch(fake_torch(cuda="12.8", n_devices=2)) == TorchBuild(
        version="2.13.0+fake", cuda="12.8", devices=("cuda:0", "cuda:1", "cpu"), names=("Fake GPU", "Fake GPU"),
        architectures=("sm_80", "sm_90"), capabilities=("sm_90", "sm_91"),
    )  # fmt: skip


def test_architectures_are_nvidias():
    build = describe_torch(fake_torch(hip="7.0", n_devices=1))
    assert (build.hip, build.devices, build.architectures, build.capabilities) == ("7.0", ("cuda:0", "cpu"), (), ())
    assert build.accelerators == ("cuda:0",)


def test_apples_gpu():
    torch = fake_torch()
    torch.backends.mps = SimpleNamespace(is_available=lambda: True, get_name=lambda: "Apple M3")
    build = describe_torch(torch)
    assert (build.devices, build.names) == (("mps", "cpu"), ("Apple M3",))


# ------------------------------------------------------------------------------------------------- in its own process


def asked(code, **limit):
    return installed_torch((sys.executable, "-c", code), **limit)


def test_the_answer_is_the_last_line():
    code = 'print("a warning")\nprint(\'{"version": "2.13.0", "devices": ["cuda:0", "cpu"], "names": ["A"]}\')'
    assert asked(code) == TorchBuild(version="2.13.0", devices=("cuda:0", "cpu"), names=("A",))


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import a_torch_that_is_not_there", "ModuleNotFoundError: No module named 'a_torch_that_is_not_there'"),
        ("import os; os._exit(9)", "its process ended with exit code 9"),
        ("", "its process ended with exit code 0"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "its process ended with exit code -9"),
    ],
)
def test_a_torch_that_fails(code, problem):
    assert asked(code) == TorchBuild(problem=problem)


def test_a_torch_that_hangs():
    assert asked("import time; time.sleep(60)", limit_s=0.5) == TorchBuild(problem="no answer within 0.5 s")


# --------------------------------------------------------------------------------------------------------- the driver


class FakeNvml:
    class NVMLError(Exception):
        pass

    def __init__(self, *, works=True, n_devices=1):
        self._works, self._n_devices = works, n_devices

    def nvmlInit(self):
        if not self._works:
            raise self.NVMLError

    def nvmlSystemGetCudaDriverVersion(self):
        return 12080

    def nvmlSystemGetDriverVersion(self):
        return b"570.86.15"

    def nvmlDeviceGetCount(self):
        return self._n_devices

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(total=100, used=handle)

    def nvmlDeviceGetName(self, handle):
        return f"GPU {handle}"


def test_the_driver():
    assert nvidia_driver(FakeNvml(n_devices=2)) == NvidiaDriver(
        "570.86.15", "12.8", (NvidiaDevice("GPU 0", 100, 0), NvidiaDevice("GPU 1", 100, 1))
    )


def test_no_driver_and_no_device():
    assert nvidia_driver(FakeNvml(works=False)) is None
    assert nvidia_driver(FakeNvml(n_devices=0)) is None
