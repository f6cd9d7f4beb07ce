"""What torch was built for and which devices it sees: asked in a process of its own, because a broken torch may end it.

`python -m compass.doctor.torch_build` prints the answer as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from compass.device.kinds import present_devices, torch_value
from compass.records import device_kind

LIMIT_S = 60.0
"""A cold network file system may need as long for the import."""


@dataclass(frozen=True)
class TorchBuild:
    """The installed torch."""

    version: str = ""
    cuda: str | None = None
    """CUDA that it was built for; None: a build without."""
    hip: str | None = None
    """ROCm that it was built for."""
    devices: tuple[str, ...] = ()
    """torch device strings, the preferred first, `cpu` last."""
    names: tuple[str, ...] = ()
    """The name of each accelerator in `devices`."""
    architectures: tuple[str, ...] = ()
    """GPU architectures that it has kernels for, such as `sm_90`; empty if it does not tell."""
    capabilities: tuple[str, ...] = ()
    """The architecture of each CUDA device."""
    problem: str = ""
    """Why it cannot be imported; empty if it can."""

    @property
    def accelerators(self) -> tuple[str, ...]:
        """`devices` without the CPU."""
        return tuple(device for device in self.devices if _is_accelerator(device))


def describe_torch(torch: Any) -> TorchBuild:
    """The build of `torch`, the package or a stand-in."""
    devices = present_devices(torch)
    on_cuda = [int(device.partition(":")[2]) for device in devices if device_kind(device).has_nvml]
    is_nvidia = not torch_value(torch, "version.hip")
    return TorchBuild(
        version=str(torch.__version__),
        cuda=torch_value(torch, "version.cuda"),
        hip=torch_value(torch, "version.hip"),
        devices=devices,
        names=tuple(_name(torch, device) for device in devices if _is_accelerator(device)),
        architectures=tuple(torch.cuda.get_arch_list()) if on_cuda and is_nvidia else (),
        capabilities=tuple("sm_{}{}".format(*torch.cuda.get_device_capability(index)) for index in on_cuda)
        if is_nvidia
        else (),
    )


def _is_accelerator(device: str) -> bool:
    return device_kind(device).memory != "host"


def _name(torch: Any, device: str) -> str:
    kind, _, index = device.partition(":")
    if device_kind(device).memory == "unified":
        return str(torch_value(torch, "backends.mps.get_name") or "Apple GPU")
    return str(getattr(torch, kind).get_device_properties(int(index)).name)


def installed_torch(command: tuple[str, ...] = (), *, limit_s: float = LIMIT_S) -> TorchBuild:
    """The build of the torch that Compass would use. Takes about as long as `import torch`: two seconds.

    Args:
        command: a stand-in for this module's own command.
        limit_s: seconds after which the process is ended.
    """
    command = command or (sys.executable, "-m", "compass.doctor.torch_build")
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return TorchBuild(problem=f"no answer within {limit_s:g} s")
    answer = _last_line(ran.stdout)
    if ran.returncode or not answer:
        return TorchBuild(problem=_last_line(ran.stderr) or f"its process ended with exit code {ran.returncode}")
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(answer).items()
    }
    return TorchBuild(**fields)


def _last_line(text: str) -> str:
    """The last line of `text` that is not blank; of a traceback, the one that names the exception."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _main() -> None:
    import torch

    sys.stdout.write(json.dumps(asdict(describe_torch(torch))) + "\n")


if __name__ == "__main__":
    _main()
