import os

import pytest

from compass.device.hardware import available_cores, detect, devices, resolve
from compass.errors import InputError

GIB = 1024**3
MIB = 1024**2


def look(root=None, kind="cpu", *, limit=None, reserve=0.0, torch=None, nvml=None):
    where = {} if root is None else {"root": root.path}
    return detect(kind, limit_bytes=limit, reserve_share=reserve, torch=torch, nvml=nvml, **where)


# ------------------------------------------------------------------------------------------------ which device


def test_preference(fakes):
    gpu, mps = fakes.Device(), fakes.Mps()
    assert resolve(torch=fakes.torch(cuda=[gpu], xpu=[gpu], mps=mps)) == "cuda:0"
    assert resolve(torch=fakes.torch(xpu=[gpu], mps=mps)) == "xpu:0"
    assert resolve(torch=fakes.torch(mps=mps)) == "mps"
    assert resolve(torch=fakes.torch()) == "cpu"


def test_everything_present_is_listed(fakes):
    torch = fakes.torch(cuda=[fakes.Device(), fakes.Device()], mps=fakes.Mps())
    assert devices(torch=torch) == ("cuda:0", "cuda:1", "mps", "cpu")


@pytest.mark.parametrize(
    ("asked", "found"),
    [("cuda", "cuda:0"), ("cuda:1", "cuda:1"), (" CUDA:1 ", "cuda:1"), ("cpu", "cpu"), ("cpu:0", "cpu")],
)
def test_ways_to_ask(fakes, asked, found):
    assert resolve(asked, torch=fakes.torch(cuda=[fakes.Device(), fakes.Device()])) == found


@pytest.mark.parametrize("asked", ["cuda:2", "xpu", "mps", "tpu", "", "cuda:", "cuda:-1"])
def test_an_absent_device_is_refused(fakes, asked):
    with pytest.raises(InputError) as caught:
        resolve(asked, torch=fakes.torch(cuda=[fakes.Device(), fakes.Device()]))
    assert str(caught.value) == (
        f"device: got {asked!r}; expected one of cuda:0, cuda:1, cpu. "
        "Choose one of these, or leave the option out to take cuda:0."
    )


# -------------------------------------------------------------------------------------------------- the CPU


def test_cpu_memory_without_limits(fakes, root):
    root.memory(total_gib=16, available_gib=12)
    root.process(rss=1024**2)
    root.write(
        "proc/cpuinfo", "processor\t: 0\nmodel name\t: Fake CPU @ 3 GHz\n\nprocessor\t: 1\nmodel name\t: Other\n"
    )
    found = look(root, reserve=0.05, torch=fakes.torch())
    assert (found.kind, found.name) == ("cpu", "Fake CPU @ 3 GHz")
    assert (found.total_bytes, found.free_bytes, found.others_bytes) == (16 * GIB, 12 * GIB, 3 * GIB)
    assert found.limit_bytes is None
    assert found.budget_bytes == 13 * GIB - int(0.05 * 16 * GIB)  # free memory, and memory that the process holds


def test_a_control_group_lowers_the_budget(fakes, root):
    root.memory(total_gib=16, available_gib=12)
    root.process(rss=1024**2)
    root.unified()
    root.write("sys/fs/cgroup/user.slice/job/memory.max", f"{6 * GIB}")
    root.write("sys/fs/cgroup/user.slice/job/memory.current", f"{2 * GIB}")
    found = look(root, reserve=0.1, torch=fakes.torch())
    assert (found.total_bytes, found.free_bytes, found.limit_bytes) == (16 * GIB, 4 * GIB, 6 * GIB)
    assert found.budget_bytes == 6 * GIB - 22 * 48 * MIB - int(
        0.1 * 6 * GIB
    )  # a GiB of other processes, in 128ths of 6 GiB


def test_a_users_limit_is_the_budget(fakes, root):
    root.memory()
    root.process(rss=1024)
    found = look(root, limit=4 * GIB, reserve=0.5, torch=fakes.torch())
    assert found.budget_bytes == found.limit_bytes == 4 * GIB


def test_a_users_limit_cannot_be_had_from_others(fakes, root):
    root.memory(total_gib=16, available_gib=2)
    root.process(rss=1024**2)
    assert look(root, limit=4 * GIB, torch=fakes.torch()).budget_bytes == 3 * GIB


def test_both_limits_report_the_smaller(fakes, root):
    root.memory()
    root.process(rss=1024)
    root.unified()
    root.write("sys/fs/cgroup/user.slice/job/memory.max", f"{6 * GIB}")
    assert look(root, limit=4 * GIB, torch=fakes.torch()).limit_bytes == 4 * GIB


@pytest.mark.parametrize("group_gib", [None, 6])
def test_a_limit_above_what_there_is_is_refused(fakes, root, group_gib):
    root.memory(total_gib=16)
    root.process(rss=1024)
    if group_gib:
        root.unified()
        root.write("sys/fs/cgroup/user.slice/job/memory.max", f"{group_gib * GIB}")
    with pytest.raises(InputError) as caught:
        look(root, limit=20 * GIB, torch=fakes.torch())
    assert str(caught.value) == (
        f"memory limit: got 20.00 GiB; expected at most the {group_gib or 16}.00 GiB of this machine. "
        "Lower the limit, or leave it out to use the free memory."
    )


def test_nothing_left_is_a_budget_of_nothing(fakes, root):
    root.memory(total_gib=16, available_gib=0)
    root.process(rss=1024)
    assert look(root, reserve=0.2, torch=fakes.torch()).budget_bytes == 0


def test_an_old_kernel_does_not_say_what_is_available(fakes, root):
    root.process(rss=0)
    root.write("proc/meminfo", f"MemTotal: {4 * 1024**2} kB\nMemFree: {1024**2} kB\nCached: {1024**2} kB\n")
    assert look(root, torch=fakes.torch()).free_bytes == 2 * GIB


def test_without_proc_psutil_is_asked(fakes, root):
    found = look(root, torch=fakes.torch())
    assert 0 < found.free_bytes <= found.total_bytes


def test_cores_follow_affinity_and_quota(root, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert available_cores(root=root.path) == 8
    root.unified()
    for quota, cores in (("250000", 2), ("50000", 1), ("1600000", 8)):
        root.write("sys/fs/cgroup/user.slice/job/cpu.max", f"{quota} 100000\n")
        assert available_cores(root=root.path) == cores


# ----------------------------------------------------------------------------------------------- accelerators


@pytest.mark.parametrize("sees_us", [True, False])
@pytest.mark.parametrize("generic", [True, False])
def test_cuda_memory(fakes, sees_us, generic):
    gpu = fakes.Device(total=16 * GIB, others=2 * GIB, context=512 * MIB, name="NVIDIA Fake")
    found = look(
        kind="cuda",
        reserve=0.05,
        torch=fakes.torch(cuda=[gpu], generic=generic),
        nvml=fakes.Nvml([gpu], sees_us=sees_us),
    )
    assert (found.kind, found.name, found.driver) == ("cuda", "NVIDIA Fake", "NVIDIA 570.86.15")
    assert (found.total_bytes, found.others_bytes) == (16 * GIB, 2 * GIB)
    assert found.free_bytes == 16 * GIB - 2 * GIB - 512 * MIB
    assert found.budget_bytes == 14 * GIB - int(0.05 * 16 * GIB)  # the context belongs to this process


def test_without_a_management_library_the_context_counts_as_another_processs(fakes):
    gpu = fakes.Device(others=2 * GIB, context=512 * MIB)
    found = look(kind="cuda", torch=fakes.torch(cuda=[gpu]), nvml=fakes.Nvml([gpu], works=False))
    assert found.driver == "CUDA 12.8"
    assert found.others_bytes == 2 * GIB + 512 * MIB


def test_rocm_does_not_ask_nvidia(fakes):
    gpu = fakes.Device()
    found = look(kind="cuda", torch=fakes.torch(cuda=[gpu], hip="6.4"), nvml=object())
    assert (found.kind, found.driver) == ("cuda", "ROCm 6.4")


def test_a_device_hidden_from_nvidia_is_not_mistaken_for_another(fakes):
    gpu, other = fakes.Device(uuid="1234"), fakes.Device(uuid="99", others=9 * GIB)
    found = look(kind="cuda", torch=fakes.torch(cuda=[gpu]), nvml=fakes.Nvml([other]))
    assert found.others_bytes == gpu.others + gpu.context


def test_a_second_device(fakes):
    one, two = fakes.Device(uuid="1", name="One"), fakes.Device(uuid="2", name="Two", others=3 * GIB)
    found = look(kind="cuda:1", torch=fakes.torch(cuda=[one, two]), nvml=fakes.Nvml([one, two]))
    assert (found.name, found.others_bytes) == ("Two", 3 * GIB)
    assert not one.has_context


def test_xpu(fakes):
    gpu = fakes.Device(name="Intel Fake", total=8 * GIB, others=0, context=0)
    found = look(kind="xpu", torch=fakes.torch(xpu=[gpu]))
    assert (found.kind, found.name, found.driver) == ("xpu", "Intel Fake", "1.6.33578")
    assert found.budget_bytes == 8 * GIB


def test_mps(fakes):
    mps = fakes.Mps(recommended=12 * GIB)
    found = look(kind="mps", reserve=0.25, torch=fakes.torch(mps=mps))
    assert (found.kind, found.name, found.total_bytes, found.budget_bytes) == ("mps", "Apple M3", 12 * GIB, 9 * GIB)


@pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"])
def test_segments_that_grow(fakes, monkeypatch, name):
    torch = fakes.torch(cuda=[fakes.Device()], xpu=[fakes.Device()])
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    assert not look(kind="cuda", torch=torch).expandable_segments
    monkeypatch.setenv(name, "expandable_segments:True")
    assert look(kind="cuda", torch=torch).expandable_segments
    assert not look(kind="xpu", torch=torch).expandable_segments
    assert not look(kind="cpu", torch=torch).expandable_segments


def test_a_limit_on_an_accelerator(fakes):
    gpu = fakes.Device(total=16 * GIB, others=1 * GIB, name="NVIDIA Fake")
    torch, nvml = fakes.torch(cuda=[gpu]), fakes.Nvml([gpu])
    assert look(kind="cuda", limit=6 * GIB, reserve=0.05, torch=torch, nvml=nvml).budget_bytes == 6 * GIB
    assert look(kind="cuda", limit=16 * GIB, reserve=0.05, torch=torch, nvml=nvml).budget_bytes == 15 * GIB
    with pytest.raises(
        InputError, match=r"memory limit: got 17\.00 GiB; expected at most the 16\.00 GiB of NVIDIA Fake\."
    ):
        look(kind="cuda", limit=17 * GIB, torch=torch, nvml=nvml)


def test_the_machine_the_tests_run_on():
    found = detect("cpu", limit_bytes=None, reserve_share=0.05)
    assert 0 < found.budget_bytes < found.total_bytes
    assert found.name
    assert available_cores() >= 1


def test_which_of_several_is_kept(fakes):
    gpus = [fakes.Device(uuid="1"), fakes.Device(uuid="2")]
    assert look(kind="cuda:1", torch=fakes.torch(cuda=gpus), nvml=fakes.Nvml(gpus)).device == "cuda:1"


def test_rocm_does_not_grow_segments_whatever_it_is_told(fakes, monkeypatch):
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    gpu = fakes.Device()
    assert look(kind="cuda", torch=fakes.torch(cuda=[gpu]), nvml=fakes.Nvml([gpu])).expandable_segments
    assert not look(kind="cuda", torch=fakes.torch(cuda=[gpu], hip="6.4"), nvml=object()).expandable_segments


def test_the_same_machine_a_little_later_has_the_same_budget(fakes, root):
    """Or no certificate would be found again."""
    root.process(rss=0)
    budgets = set()
    for available_kib in (12 * 1024**2 - 70_000, 12 * 1024**2 - 90_000, 12 * 1024**2 - 120_000):
        root.write("proc/meminfo", f"MemTotal: {16 * 1024**2} kB\nMemAvailable: {available_kib} kB\n")
        budgets.add(look(root, reserve=0.05, torch=fakes.torch()).budget_bytes)
    assert budgets == {12 * GIB - 128 * MIB - int(0.05 * 16 * GIB)}


def test_arm_has_numbers_for_a_name(fakes, root):
    root.memory()
    root.process(rss=0)
    root.write("proc/cpuinfo", "processor : 0\nCPU implementer : 0x41\nCPU part : 0xd0c\n")
    assert look(root, torch=fakes.torch()).name.endswith(" 0x41 0xd0c")


def test_gpu_is_whatever_accelerator_there_is(fakes):
    gpu = fakes.Device()
    assert resolve("gpu", torch=fakes.torch(cuda=[gpu, gpu])) == "cuda:0"
    assert resolve("GPU:1", torch=fakes.torch(cuda=[gpu, gpu])) == "cuda:1"
    assert resolve("gpu", torch=fakes.torch(xpu=[gpu])) == "xpu:0"
    with pytest.raises(InputError, match=r"got 'gpu'; expected one of cpu"):
        resolve("gpu", torch=fakes.torch())
