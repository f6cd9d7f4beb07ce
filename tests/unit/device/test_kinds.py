"""A device kind is one row: no other file tests its name, and a new row is enough for a device with a caching allocator."""

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest

import compass
from compass.device import detect, devices, fingerprint, kinds, meter_for, resolve
from compass.errors import InputError
from compass.records import DEVICE_KINDS, DeviceKind, Hardware, device_kind

PACKAGE = Path(compass.__file__).parent


def named_kinds(tree):
    """Comparisons with the name of a device kind, and `startswith` with one."""
    for node in ast.walk(tree):
        compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "startswith":
            compared = node.args
        if isinstance(node, ast.Match):
            compared = [case.pattern for case in node.cases]
        for part in compared:
            for leaf in ast.walk(part):
                if isinstance(leaf, ast.Constant) and leaf.value in DEVICE_KINDS:
                    yield leaf.lineno, leaf.value


def test_no_file_tests_the_name_of_a_kind():
    found = {
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in PACKAGE.rglob("*.py")
        for line, name in named_kinds(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not found


@pytest.mark.parametrize("code", ['kind == "cpu"', 'kind in {"mps", "cpu"}', 'device.startswith("cuda")'])
def test_a_test_of_a_name_would_be_found(code):
    assert list(named_kinds(ast.parse(code)))


@pytest.fixture
def npu(fakes, monkeypatch):
    """A torch with one device of a kind that Compass does not have, and its row."""
    row = DeviceKind(
        "npu",
        memory="caching",
        has_index=True,
        is_available="npu.is_available",
        device_count="npu.device_count",
        get_random_state="npu.get_rng_state",
        set_random_state="npu.set_rng_state",
        versions=(("npu", "version.npu"),),
    )
    monkeypatch.setattr("compass.records.devices.DEVICE_KINDS", {"npu": row} | DEVICE_KINDS)
    monkeypatch.setattr("compass.device.kinds.DEVICE_KINDS", {"npu": row} | DEVICE_KINDS)
    device = fakes.Device(name="A new device", others=0, context=0)
    torch = fakes.torch(xpu=[device])
    torch.npu, torch.xpu = torch.xpu, fakes.torch().xpu
    torch.version.npu = "9.1"
    return torch


def test_a_new_row_is_enough_for_a_device_with_a_caching_allocator(npu):
    assert devices(torch=npu) == ("npu:0", "cpu")
    assert resolve(torch=npu) == "npu:0"
    hardware = detect(limit_bytes=None, reserve_share=0.0, torch=npu)
    assert (hardware.device, hardware.name, hardware.on_host) == ("npu:0", "A new device", False)
    assert dict(fingerprint(hardware, "0123", torch=npu).versions)["npu"] == "9.1"
    meter = meter_for("npu:0", hardware, torch=npu)
    npu.npu.devices[0].hold(1024)
    assert meter.peak_live_bytes() == 1024


def test_random_state(npu):
    kept = []
    npu.npu.get_rng_state = lambda device: f"state of {device}"
    npu.npu.set_rng_state = lambda state, device: kept.append((state, device))
    states = kinds.device_random_state("npu:0", npu)
    assert states == {"npu": "state of npu:0"}
    kinds.set_device_random_state(states, "npu:0", npu)
    kinds.set_device_random_state({"cuda": "of another device"}, "npu:0", npu)
    assert kept == [("state of npu:0", "npu:0")]
    assert kinds.device_random_state("cpu", npu) == {}


def test_a_kind_without_index_is_called_without_device():
    mps = SimpleNamespace(get_rng_state=lambda: "state")
    assert kinds.device_random_state("mps", SimpleNamespace(mps=mps)) == {"mps": "state"}


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match=r"device: got 'tpu:0'; expected one of cuda, xpu, mps, cpu"):
        device_kind("tpu:0")


@pytest.mark.parametrize(
    ("kind", "device", "on_host"),
    [("cuda", "cuda:1", False), ("xpu", "xpu:1", False), ("mps", "mps", False), ("cpu", "cpu", True)],
)
def test_a_device_and_its_row(kind, device, on_host):
    hardware = Hardware(
        kind=kind, index=1, name="", driver="", total_bytes=0, free_bytes=0, others_bytes=0, budget_bytes=0
    )
    assert (hardware.device, hardware.on_host) == (device, on_host)


def test_every_name_is_torchs():
    torch = pytest.importorskip("torch")
    for row in DEVICE_KINDS.values():
        functions = (row.is_available, row.device_count, row.get_random_state, row.set_random_state)
        assert all(callable(kinds.torch_attribute(torch, name)) for name in functions if name), row.name
        assert torch.device(row.name).type == row.name
