"""Stand-ins for torch, its devices, NVIDIA's management library, and the files that Linux would show."""

# ruff: noqa: N802 - NVIDIA's library names its functions so

import os
from types import SimpleNamespace

import pytest

GIB = 1024**3
MIB = 1024**2


class FakeDevice:
    """One accelerator with a caching allocator, other processes beside it, and a context that comes with use."""

    def __init__(self, *, total=16 * GIB, others=1 * GIB, context=512 * MIB, name="Fake GPU", uuid="1234"):
        self.total, self.others, self.context = total, others, context
        self.properties = SimpleNamespace(name=name, uuid=uuid, driver_version="1.6.33578")
        self.has_context = False
        self.reserved = self.allocated = self.peak_reserved = self.peak_allocated = 0
        self.fraction = 1.0
        self.n_emptied = self.n_synchronized = 0

    def hold(self, n_bytes, *, live=None):
        if n_bytes > self.fraction * self.total:
            raise RuntimeError(f"CUDA out of memory. Tried to allocate {n_bytes} bytes.")
        self.reserved, self.allocated = n_bytes, n_bytes if live is None else live
        self.peak_reserved = max(self.peak_reserved, self.reserved)
        self.peak_allocated = max(self.peak_allocated, self.allocated)

    @property
    def used(self):
        return self.others + self.reserved + (self.context if self.has_context else 0)


class FakeModule:
    """`torch.cuda` or `torch.xpu`; with `figures`, also what `torch.accelerator` offers from torch 2.9 on."""

    def __init__(self, devices):
        self.devices = devices

    def is_available(self):
        return bool(self.devices)

    def device_count(self):
        return len(self.devices)

    def get_device_properties(self, index):
        return self.devices[index].properties

    def synchronize(self, index):
        self.devices[index].has_context = True
        self.devices[index].n_synchronized += 1

    def empty_cache(self):
        for device in self.devices:
            device.n_emptied += 1
            device.reserved = device.allocated

    def set_per_process_memory_fraction(self, fraction, index):
        assert isinstance(fraction, float)
        assert 0 <= fraction <= 1
        self.devices[index].fraction = fraction

    def mem_get_info(self, index):
        self.devices[index].has_context = True
        return self.devices[index].total - self.devices[index].used, self.devices[index].total

    def memory_reserved(self, index):
        return self.devices[index].reserved

    def max_memory_reserved(self, index):
        return self.devices[index].peak_reserved

    def max_memory_allocated(self, index):
        return self.devices[index].peak_allocated

    def reset_peak_memory_stats(self, index):
        device = self.devices[index]
        device.peak_reserved, device.peak_allocated = device.reserved, device.allocated


class FakeGeneric:
    """`torch.accelerator` with its memory figures: it has no limit and no device properties."""

    def __init__(self, module):
        self._module = module
        self.get_memory_info = module.mem_get_info

    def __getattr__(self, name):
        if name in {"memory_reserved", "max_memory_reserved", "max_memory_allocated", "reset_peak_memory_stats"}:
            return getattr(self._module, name)
        raise AttributeError(name)


class FakeMps:
    def __init__(self, *, recommended=12 * GIB):
        self.recommended, self.driver, self.live, self.fraction, self.n_emptied = recommended, 0, 0, 1.7, 0

    def recommended_max_memory(self):
        return self.recommended

    def driver_allocated_memory(self):
        return self.driver

    def current_allocated_memory(self):
        return self.live

    def set_per_process_memory_fraction(self, fraction):
        assert isinstance(fraction, float)
        assert 0 < fraction <= 2
        self.fraction = fraction

    def synchronize(self):
        pass

    def empty_cache(self):
        self.n_emptied += 1


class FakeNvml:
    """NVIDIA's management library. `sees_us` False is a container with its own process numbers."""

    class NVMLError(Exception):
        pass

    def __init__(self, devices, *, sees_us=True, works=True):
        self._devices, self._sees_us, self._works = {d.properties.uuid: d for d in devices}, sees_us, works

    def nvmlInit(self):
        if not self._works:
            raise self.NVMLError

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid.removeprefix("GPU-") not in self._devices:
            raise self.NVMLError
        return self._devices[uuid.removeprefix("GPU-")]

    def nvmlDeviceGetMemoryInfo(self, device):
        return SimpleNamespace(used=device.used)

    def nvmlDeviceGetComputeRunningProcesses(self, device):
        ours = SimpleNamespace(pid=os.getpid() if self._sees_us else 1, usedGpuMemory=device.context + device.reserved)
        return [SimpleNamespace(pid=-5, usedGpuMemory=device.others), *([ours] if device.has_context else [])]

    def nvmlDeviceGetGraphicsRunningProcesses(self, device):
        return [SimpleNamespace(pid=os.getpid(), usedGpuMemory=None)]

    def nvmlSystemGetDriverVersion(self):
        return "570.86.15"


def make_torch(*, cuda=(), xpu=(), mps=None, hip=None, generic=True):
    modules = {"cuda": FakeModule(list(cuda)), "xpu": FakeModule(list(xpu))}
    main = modules["cuda" if cuda else "xpu"]
    return SimpleNamespace(
        **modules,
        mps=mps,
        accelerator=FakeGeneric(main) if generic else SimpleNamespace(),
        backends=SimpleNamespace(
            mps=SimpleNamespace(is_available=lambda: mps is not None, get_name=lambda: "Apple M3"),
            cudnn=SimpleNamespace(version=lambda: 90100),
        ),
        version=SimpleNamespace(cuda=None if hip else "12.8", hip=hip, xpu="20250101"),
        __version__="2.13.0+fake",
    )


@pytest.fixture
def fakes():
    return SimpleNamespace(Device=FakeDevice, Mps=FakeMps, Nvml=FakeNvml, torch=make_torch)


STATUS = """Name:\tpython
VmPeak:\t 9000000 kB
VmHWM:\t{peak_rss} kB
VmRSS:\t{rss} kB
RssAnon:\t{anon} kB
RssFile:\t{file} kB
RssShmem:\t{shared} kB
VmData:\t{data} kB
VmSwap:\t{swap} kB
Threads:\t2
"""


class FakeRoot:
    """A root folder with the parts of `/proc` and `/sys` that a test asks for."""

    def __init__(self, path):
        self.path = path

    def write(self, name, text):
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def process(self, *, data=0, rss=0, file=0, shared=0, peak_rss=0, swap=0, pid="self"):
        anon = rss - file - shared
        fields = {"data": data, "rss": rss, "file": file, "shared": shared, "anon": anon, "swap": swap}
        self.write(f"proc/{pid}/status", STATUS.format(peak_rss=max(peak_rss, rss), **fields))

    def memory(self, *, total_gib=16, available_gib=12):
        kib = 1024**2
        self.write(
            "proc/meminfo",
            f"MemTotal:       {total_gib * kib} kB\nMemFree:   1000 kB\nMemAvailable:   {available_gib * kib} kB\n",
        )

    def unified(self, path="/user.slice/job", *, mount_root="/"):
        """Membership in a group of version 2."""
        self.write("proc/self/cgroup", f"0::{path}\n")
        self.write(
            "proc/self/mountinfo", f"31 23 0:28 {mount_root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
        )

    def legacy(self, path="/docker/abc", *, mount_root="/"):
        """Membership in groups of version 1, with an empty unified hierarchy beside them."""
        self.write("proc/self/cgroup", f"9:name=systemd:/x\n4:memory:{path}\n2:cpu,cpuacct:{path}\n0::/\n")
        self.write(
            "proc/self/mountinfo",
            f"35 31 0:32 {mount_root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
            f"36 31 0:33 {mount_root} /sys/fs/cgroup/cpu\\040quota rw - cgroup cgroup rw,cpu,cpuacct\n"
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
        )


@pytest.fixture
def root(tmp_path):
    return FakeRoot(tmp_path)
