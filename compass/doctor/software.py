"""Checks of the system, Python, the packages that Compass needs, and torch against the driver."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from packaging.requirements import Requirement

from compass.doctor.checks import CheckResult
from compass.doctor.driver import NvidiaDriver
from compass.doctor.torch_build import TorchBuild
from compass.units import format_bytes

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
"""Versions that are tested."""
EXTRAS = {
    "report": "plots as files (`compass report --figures`)",
    "parquet": "Parquet manifests",
    "examples": "the Chemprop and MACE examples",
}
"""Optional extra → what it gives. The others are for development."""
TORCH_PAGE = "https://pytorch.org/get-started/locally"
HELD_SHARE = 0.1
"""Other programs that hold more than this share of a GPU's memory change what is planned."""


def check_system(system: str, python: tuple[int, int]) -> CheckResult:
    """The operating system and Python.

    Args:
        system: as `platform.system()` names it.
        python: major and minor version.
    """
    says = f"{system}, Python {python[0]}.{python[1]}"
    if not OLDEST_PYTHON <= python <= NEWEST_PYTHON:
        tested = " to ".join(f"{major}.{minor}" for major, minor in (OLDEST_PYTHON, NEWEST_PYTHON))
        return CheckResult("system", "warn", f"{says}, which is not tested", f"Use Python {tested}.")
    if system != "Linux":
        return CheckResult(
            "system",
            "warn",
            f"{says}: no memory ceiling is enforced on a CPU here",
            "Certificates are enforced on Linux, and on CUDA devices.",
        )
    return CheckResult("system", "ok", says)


def check_packages(requirements: Sequence[str] | None, version_of: Callable[[str], str | None]) -> CheckResult:
    """The packages that Compass needs.

    Args:
        requirements: those of the installed distribution, extras included, as `importlib.metadata.requires` gives them; None if
            Compass is not installed, only importable.
        version_of: the version of a distribution; None if it is not installed.
    """
    if requirements is None:
        return CheckResult(
            "packages",
            "warn",
            "Compass is not installed, only importable, so that the versions it needs are unknown",
            "Install it: pip install .",
        )
    needed = [found for found in map(Requirement, requirements) if _applies(found, "")]
    faults = [(found, fault) for found in needed if (fault := _fault(found, version_of(found.name)))]
    if faults:
        wanted = " ".join(f"'{found.name}{found.specifier}'" for found, _ in faults)
        return CheckResult(
            "packages",
            "fail",
            ", ".join(f"{found.name} {fault}" for found, fault in faults),
            f"Run: pip install {wanted}",
        )
    return CheckResult("packages", "ok", f"all {len(needed)} that Compass needs, in supported versions")


def check_extras(requirements: Sequence[str] | None, version_of: Callable[[str], str | None]) -> CheckResult:
    """The optional packages, and what each extra gives; arguments as for `check_packages`."""
    wanted = {extra: [r for r in map(Requirement, requirements or ()) if _applies(r, extra)] for extra in EXTRAS}
    known = {extra: parts for extra, parts in wanted.items() if parts}
    here = [e for e, parts in known.items() if not any(_fault(part, version_of(part.name)) for part in parts)]
    absent = [extra for extra in known if extra not in here]
    says = [f"{', '.join(here)} installed"] if here else []
    says += [f"{', '.join(absent)} not installed"] if absent else []
    return CheckResult(
        "extras",
        "ok",
        "; ".join(says) or "none",
        " ".join(f"For {EXTRAS[extra]}: pip install 'compass-optimizer[{extra}]'." for extra in absent),
    )


def _applies(requirement: Requirement, extra: str) -> bool:
    """Whether a requirement belongs to `extra`, or to the package itself if that is empty."""
    marker = requirement.marker
    if not extra:
        return marker is None or marker.evaluate({"extra": ""})
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _fault(requirement: Requirement, version: str | None) -> str:
    if version is None:
        return "is not installed"
    return (
        "" if requirement.specifier.contains(version, prereleases=True) else f"{version} is not {requirement.specifier}"
    )


def check_torch(
    build: TorchBuild, driver: NvidiaDriver | None, *, has_amd_driver: bool = False, visible: str | None = None
) -> CheckResult:
    """The torch build against the drivers that are here.

    Args:
        build: the installed torch.
        driver: NVIDIA's; None if there is none.
        has_amd_driver: whether the kernel has AMD's compute driver (`/dev/kfd`).
        visible: the environment's `CUDA_VISIBLE_DEVICES`; None if it is not set.
    """
    if build.problem:
        return CheckResult(
            "torch",
            "fail",
            f"torch cannot be imported: {build.problem}",
            f"Install it again; {TORCH_PAGE} names the command.",
        )
    is_for = f" (CUDA {build.cuda})" if build.cuda else f" (ROCm {build.hip})" if build.hip else ""
    says = f"torch {build.version}{is_for}"
    if build.accelerators:
        return _with_devices(build, says)
    if driver is not None and not build.hip:
        return _without_its_device(build, driver, says, visible)
    if has_amd_driver and not build.hip:
        return CheckResult(
            "torch",
            "warn",
            f"{says}: this build has no ROCm, though an AMD driver is here",
            f"To train on the GPU, install a build for ROCm; {TORCH_PAGE} names the command.",
        )
    return CheckResult("torch", "ok", f"{says}: no accelerator here, so training uses the CPU")


def _with_devices(build: TorchBuild, says: str) -> CheckResult:
    foreign = [
        f"{name} ({capability})"
        for name, capability in zip(build.names, build.capabilities, strict=False)
        if not _has_kernels(capability, build.architectures)
    ]
    if foreign:
        return CheckResult(
            "torch",
            "fail",
            f"{says}: this build has no kernels for {', '.join(foreign)}, only for {', '.join(build.architectures)}",
            f"Install a build that has them; {TORCH_PAGE} lists older ones too. To train on the CPU: --device cpu.",
        )
    seen = ", ".join(f"{device} is {name}" for device, name in zip(build.accelerators, build.names, strict=True))
    return CheckResult("torch", "ok", f"{says}: {seen}")


def _has_kernels(capability: str, architectures: Sequence[str]) -> bool:
    """Whether code for one of `architectures` runs on `capability`.

    Binaries run on later minor versions of their major version (`sm_80` on `sm_86`), and intermediate code (`compute_90`) on all
    later ones. An `a` or `f` at the end names one GPU's own features.
    """
    if not architectures:
        return True
    own = _number(capability)
    for architecture in architectures:
        has = _number(architecture)
        if architecture.startswith("compute_") and has <= own:
            return True
        if architecture.startswith("sm_") and has // 10 == own // 10 and has <= own:
            return True
    return False


def _number(architecture: str) -> int:
    match = re.search(r"\d+", architecture)
    return int(match[0]) if match else 0


def _without_its_device(build: TorchBuild, driver: NvidiaDriver, says: str, visible: str | None) -> CheckResult:
    here = f"an NVIDIA driver {driver.version} (CUDA up to {driver.cuda}) is here"
    fitting = f"a build for CUDA {driver.cuda} or older; {TORCH_PAGE} names the command."
    if build.cuda is None:
        return CheckResult(
            "torch", "warn", f"{says}: this build has no CUDA, though {here}", f"To train on the GPU, install {fitting}"
        )
    if visible is not None:
        return CheckResult(
            "torch",
            "warn",
            f"{says}: CUDA_VISIBLE_DEVICES={visible!r} hides every device",
            "To train on the GPU, unset that variable.",
        )
    if int(build.cuda.split(".")[0]) > int(driver.cuda.split(".")[0]):
        return CheckResult(
            "torch",
            "warn",
            f"{says}: too new for this driver; {here}",
            f"To train on the GPU, upgrade the driver, or install {fitting}",
        )
    return CheckResult(
        "torch",
        "warn",
        f"{says} sees no device, though {here}",
        "To train on the GPU, compare `nvidia-smi` with `python -m torch.utils.collect_env`; "
        "a container needs the devices (`docker run --gpus all`).",
    )


def check_device_memory(driver: NvidiaDriver | None) -> CheckResult:
    """The memory of NVIDIA devices that other programs hold."""
    if driver is None:
        return CheckResult("device memory", "ok", "no NVIDIA device")
    says = ", ".join(
        f"{device.name}: {format_bytes(device.total_bytes - device.used_bytes)} of {format_bytes(device.total_bytes)} free"
        for device in driver.devices
    )
    if any(device.used_bytes > HELD_SHARE * device.total_bytes for device in driver.devices):
        return CheckResult(
            "device memory",
            "warn",
            says,
            "Other programs hold the rest (`nvidia-smi` lists them), and plans use only free memory: end them before `compass optimize`.",
        )
    return CheckResult("device memory", "ok", says)
