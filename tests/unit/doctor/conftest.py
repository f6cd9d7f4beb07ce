"""The parts of `/proc` and `/sys` that a check reads."""

import pytest

GIB = 1024**3
KIB_OF_GIB = 1024**2


@pytest.fixture
def machine(tmp_path):
    """Writes a machine's files below a folder, and returns the folder."""

    def write(*, total_gib=16, free_gib=12, limit_gib=None, used_gib=0, quota=None):
        files = {
            "proc/meminfo": f"MemTotal: {total_gib * KIB_OF_GIB:.0f} kB\nMemAvailable: {free_gib * KIB_OF_GIB:.0f} kB\n",
            "proc/cpuinfo": "model name\t: Some CPU\n",
            "proc/self/cgroup": "0::/job\n",
            "proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
            "sys/fs/cgroup/job/memory.max": "max" if limit_gib is None else str(int(limit_gib * GIB)),
            "sys/fs/cgroup/job/memory.current": str(int(used_gib * GIB)),
            "sys/fs/cgroup/job/cpu.max": "max 100000" if quota is None else f"{int(quota * 100_000)} 100000",
        }
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write
