import platform
import subprocess
import sys

import pytest

from compass.device.fingerprint import fingerprint
from compass.device.hardware import detect
from compass.version import __version__


def look(fakes, kind, **parts):
    torch = fakes.torch(**parts)
    hardware = detect(kind, limit_bytes=None, reserve_share=0.0, torch=torch, nvml=fakes.Nvml(parts.get("cuda", ())))
    return fingerprint(hardware, "0123", torch=torch)


def test_cuda(fakes):
    found = look(fakes, "cuda", cuda=[fakes.Device(name="NVIDIA Fake")])
    versions = dict(found.versions)
    assert (found.device, found.driver, found.torch) == ("cuda: NVIDIA Fake", "NVIDIA 570.86.15", "2.13.0+fake")
    assert (versions["cuda"], versions["cudnn"]) == ("12.8", "90100")
    assert "rocm" not in versions
    assert versions["python"] == platform.python_version()
    assert versions["compass"] == __version__
    assert list(versions) == sorted(versions)
    assert found.workload == "0123"


def test_rocm_xpu_and_mps(fakes):
    assert dict(look(fakes, "cuda", cuda=[fakes.Device()], hip="6.4").versions)["rocm"] == "6.4"
    assert dict(look(fakes, "xpu", xpu=[fakes.Device()]).versions)["xpu"] == "20250101"
    assert look(fakes, "mps", mps=fakes.Mps()).device == "mps: Apple M3"


@pytest.mark.parametrize("change", [{"name": "Another GPU"}, {"total": 1}])
def test_only_what_matters_changes_the_key(fakes, change):
    one = look(fakes, "cuda", cuda=[fakes.Device()])
    other = look(fakes, "cuda", cuda=[fakes.Device(**change)])
    assert (one.key == other.key) is ("name" not in change)


def test_importing_the_room_loads_no_torch():
    code = "import compass.device, sys; raise SystemExit('torch' in sys.modules or 'pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_machine_the_tests_run_on():
    found = fingerprint(detect("cpu", limit_bytes=None, reserve_share=0.0), "0123")
    assert found.device.startswith("cpu: ")
    assert {"cpu_capability", "torch_geometric"} <= set(dict(found.versions))
