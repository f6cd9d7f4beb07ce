import pytest

from compass.doctor.checks import CheckResult
from compass.doctor.driver import NvidiaDevice, NvidiaDriver
from compass.doctor.software import (
    check_device_memory,
    check_extras,
    check_packages,
    check_system,
    check_torch,
)
from compass.doctor.torch_build import TorchBuild

GIB = 1024**3
PAGE = "https://pytorch.org/get-started/locally"
CPU = TorchBuild(version="2.13.0+cpu", devices=("cpu",))
CUDA = TorchBuild(version="2.13.0", cuda="13.0", devices=("cpu",))
DRIVER = NvidiaDriver("570.86.15", "12.8", (NvidiaDevice("NVIDIA H200", 140 * GIB, 1 * GIB),))


# -------------------------------------------------------------------------------------------------- system and Python


@pytest.mark.parametrize(
    ("system", "python", "level", "says", "remedy"),
    [
        ("Linux", (3, 11), "ok", "Linux, Python 3.11", ""),
        ("Linux", (3, 15), "warn", "Linux, Python 3.15, which is not tested", "Use Python 3.11 to 3.14."),
        (
            "Darwin",
            (3, 12),
            "warn",
            "Darwin, Python 3.12: no memory ceiling is enforced on a CPU here",
            "Certificates are enforced on Linux, and on CUDA devices.",
        ),
    ],
)
def test_system(system, python, level, says, remedy):
    assert check_system(system, python) == CheckResult("system", level, says, remedy)


# ------------------------------------------------------------------------------------------------------------ packages

REQUIREMENTS = ["numpy>=2.0", "vesin>=0.3", 'matplotlib>=3.9; extra == "report"', 'pyarrow>=23; extra == "parquet"']


def test_all_packages():
    versions = {"numpy": "2.4.1", "vesin": "0.3.7"}
    assert check_packages(REQUIREMENTS, versions.get) == CheckResult(
        "packages", "ok", "all 2 that Compass needs, in supported versions"
    )


def test_missing_and_old_packages():
    assert check_packages(REQUIREMENTS, {"numpy": "1.26.4"}.get) == CheckResult(
        "packages",
        "fail",
        "numpy 1.26.4 is not >=2.0, vesin is not installed",
        "Run: pip install 'numpy>=2.0' 'vesin>=0.3'",
    )


def test_a_build_of_a_version_is_that_version():
    assert check_packages(["torch>=2.10"], {"torch": "2.13.0+cpu"}.get).level == "ok"
    assert check_packages(["torch>=2.10"], {"torch": "2.14.0a0+git123"}.get).level == "ok"


def test_compass_that_is_not_installed():
    assert check_packages(None, {}.get) == CheckResult(
        "packages",
        "warn",
        "Compass is not installed, only importable, so that the versions it needs are unknown",
        "Install it: pip install .",
    )


@pytest.mark.parametrize(
    ("versions", "says", "remedy"),
    [
        ({"matplotlib": "3.10", "pyarrow": "24"}, "report, parquet installed", ""),
        (
            {"matplotlib": "3.10"},
            "report installed; parquet not installed",
            "For Parquet manifests: pip install 'compass-optimizer[parquet]'.",
        ),
        (
            {"matplotlib": "3.1"},
            "report, parquet not installed",
            "For plots as files (`compass report --figures`): pip install 'compass-optimizer[report]'. "
            "For Parquet manifests: pip install 'compass-optimizer[parquet]'.",
        ),
    ],
)
def test_extras(versions, says, remedy):
    assert check_extras(REQUIREMENTS, versions.get) == CheckResult("extras", "ok", says, remedy)


def test_extras_of_a_package_that_is_not_installed():
    assert check_extras(None, {}.get) == CheckResult("extras", "ok", "none")


# --------------------------------------------------------------------------------------------------------------- torch


def torch_finding(build, driver=None, **more):
    found = check_torch(build, driver, **more)
    assert found.check == "torch"
    return found.level, found.says, found.remedy


def test_no_gpu_and_a_build_for_the_cpu():
    assert torch_finding(CPU) == ("ok", "torch 2.13.0+cpu: no accelerator here, so training uses the CPU", "")


def test_no_gpu_and_a_build_for_cuda():
    assert torch_finding(CUDA) == ("ok", "torch 2.13.0 (CUDA 13.0): no accelerator here, so training uses the CPU", "")


def test_a_driver_but_a_build_for_the_cpu():
    assert torch_finding(CPU, DRIVER) == (
        "warn",
        "torch 2.13.0+cpu: this build has no CUDA, though an NVIDIA driver 570.86.15 (CUDA up to 12.8) is here",
        f"To train on the GPU, install a build for CUDA 12.8 or older; {PAGE} names the command.",
    )


def test_a_build_that_is_too_new_for_the_driver():
    assert torch_finding(CUDA, DRIVER) == (
        "warn",
        "torch 2.13.0 (CUDA 13.0): too new for this driver; an NVIDIA driver 570.86.15 (CUDA up to 12.8) is here",
        f"To train on the GPU, upgrade the driver, or install a build for CUDA 12.8 or older; {PAGE} names the command.",
    )


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_devices(visible):
    assert torch_finding(CUDA, DRIVER, visible=visible) == (
        "warn",
        f"torch 2.13.0 (CUDA 13.0): CUDA_VISIBLE_DEVICES={visible!r} hides every device",
        "To train on the GPU, unset that variable.",
    )


def test_a_device_that_torch_does_not_see():
    build = TorchBuild(version="2.13.0", cuda="12.9", devices=("cpu",))  # a later minor version runs on this driver
    assert torch_finding(build, DRIVER) == (
        "warn",
        "torch 2.13.0 (CUDA 12.9) sees no device, though an NVIDIA driver 570.86.15 (CUDA up to 12.8) is here",
        "To train on the GPU, compare `nvidia-smi` with `python -m torch.utils.collect_env`; "
        "a container needs the devices (`docker run --gpus all`).",
    )


def seen(capability, architectures, name="NVIDIA H200"):
    return TorchBuild(
        version="2.13.0", cuda="12.8", devices=("cuda:0", "cpu"), names=(name,), capabilities=(capability,),
        architectures=architectures,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("capability", "architectures"),
    [
        ("sm_90", ("sm_80", "sm_90")),
        ("sm_86", ("sm_80", "sm_90")),
        ("sm_120", ("sm_80", "compute_90")),
        ("sm_90", ("sm_80", "sm_90a")),
        ("sm_90", ()),
    ],
)
def test_a_device_with_kernels(capability, architectures):
    assert torch_finding(seen(capability, architectures), DRIVER) == (
        "ok",
        "torch 2.13.0 (CUDA 12.8): cuda:0 is NVIDIA H200",
        "",
    )


@pytest.mark.parametrize("capability", ["sm_70", "sm_120"])
def test_a_device_without_kernels(capability):
    assert torch_finding(seen(capability, ("sm_75", "sm_80", "sm_90"), "Some GPU"), DRIVER) == (
        "fail",
        f"torch 2.13.0 (CUDA 12.8): this build has no kernels for Some GPU ({capability}), only for sm_75, sm_80, sm_90",
        f"Install a build that has them; {PAGE} lists older ones too. To train on the CPU: --device cpu.",
    )


def test_amd():
    assert torch_finding(CPU, has_amd_driver=True) == (
        "warn",
        "torch 2.13.0+cpu: this build has no ROCm, though an AMD driver is here",
        f"To train on the GPU, install a build for ROCm; {PAGE} names the command.",
    )
    build = TorchBuild(version="2.13.0", hip="7.0", devices=("cuda:0", "cpu"), names=("AMD Instinct",))
    assert torch_finding(build, has_amd_driver=True) == (
        "ok",
        "torch 2.13.0 (ROCm 7.0): cuda:0 is AMD Instinct",
        "",
    )


def test_a_torch_that_cannot_be_imported():
    problem = "OSError: libcudart.so.13: cannot open shared object file"
    assert torch_finding(TorchBuild(problem=problem)) == (
        "fail",
        f"torch cannot be imported: {problem}",
        f"Install it again; {PAGE} names the command.",
    )


# ------------------------------------------------------------------------------------------------------- device memory


def test_device_memory():
    assert check_device_memory(None) == CheckResult("device memory", "ok", "no NVIDIA device")
    assert check_device_memory(DRIVER) == CheckResult(
        "device memory", "ok", "NVIDIA H200: 139.00 GiB of 140.00 GiB free"
    )
    busy = NvidiaDriver("1", "12.8", (*DRIVER.devices, NvidiaDevice("NVIDIA L4", 24 * GIB, 20 * GIB)))
    assert check_device_memory(busy) == CheckResult(
        "device memory",
        "warn",
        "NVIDIA H200: 139.00 GiB of 140.00 GiB free, NVIDIA L4: 4.00 GiB of 24.00 GiB free",
        "Other programs hold the rest (`nvidia-smi` lists them), and plans use only free memory: "
        "end them before `compass optimize`.",
    )
