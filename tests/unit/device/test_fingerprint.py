import subprocess
import sys

import pytest

from compass.device.fingerprint import MEASUREMENT_VERSION, fingerprint
from compass.device.hardware import detect


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
    assert versions["python"] == "{}.{}".format(*sys.version_info[:2])
    assert versions["measurement"] == str(MEASUREMENT_VERSION)
    assert list(versions) == sorted(versions)
    assert found.workload == "0123"


def test_rocm_xpu_and_mps(fakes):
    assert dict(look(fakes, "cuda", cuda=[fakes.Device()], hip="6.4").versions)["rocm"] == "6.4"
    assert dict(look(fakes, "xpu", xpu=[fakes.Device()]).versions)["xpu"] == "20250101"
    assert look(fakes, "mps", mps=fakes.Mps()).device == "mps: Apple M3"


def test_a_release_without_a_change_of_measurement_keeps_the_key(fakes, monkeypatch):
    before = look(fakes, "cuda", cuda=[fakes.Device()])
    for module in [module for name, module in sys.modules.items() if name.startswith("compass")]:
        if hasattr(module, "__version__"):
            monkeypatch.setattr(module, "__version__", "99.0.0")
    assert look(fakes, "cuda", cuda=[fakes.Device()]).key == before.key


def test_a_patch_release_of_python_keeps_the_key(fakes, monkeypatch):
    before = look(fakes, "cuda", cuda=[fakes.Device()])
    major, minor, micro, *rest = sys.version_info
    patched = type("version_info", (tuple,), {"major": major, "minor": minor})((major, minor, micro + 1, *rest))
    monkeypatch.setattr(sys, "version_info", patched)
    assert look(fakes, "cuda", cuda=[fakes.Device()]).key == before.key


def test_a_change_of_measurement_changes_the_key(fakes, monkeypatch):
    before = look(fakes, "cuda", cuda=[fakes.Device()])
    monkeypatch.setitem(fingerprint.__globals__, "MEASUREMENT_VERSION", MEASUREMENT_VERSION + 1)
    assert look(fakes, "cuda", cuda=[fakes.Device()]).key != before.key


@pytest.mark.parametrize("change", [{"name": "Another GPU"}, {"total": 1}])
def test_only_what_matters_changes_the_key(fakes, change):
    one = look(fakes, "cuda", cuda=[fakes.Device()])
    other = look(fakes, "cuda", cuda=[fakes.Device(**change)])
    assert (one.key == other.key) is ("name" not in change)


def test_importing_the_package_loads_no_torch():
    code = "import compass.device, sys; raise SystemExit('torch' in sys.modules or 'pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_machine_the_tests_run_on():
    found = fingerprint(detect("cpu", limit_bytes=None, reserve_share=0.0), "0123")
    assert found.device.startswith("cpu: ")
    assert {"cpu_capability", "torch_geometric"} <= set(dict(found.versions))
