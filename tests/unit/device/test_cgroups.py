import pytest

from compass.device.cgroups import GroupMemory, group_cores, group_memory

GIB = 1024**3
JOB = "sys/fs/cgroup/user.slice/job"


def test_no_groups_no_limit(root):
    assert group_memory(root=root.path) == GroupMemory(None, None)
    assert group_cores(root=root.path) is None


def test_version_2(root):
    root.unified()
    root.write(f"{JOB}/memory.max", f"{8 * GIB}\n")
    root.write(f"{JOB}/memory.current", f"{3 * GIB}\n")
    root.write(f"{JOB}/memory.stat", f"anon 5\ninactive_file {1 * GIB}\nactive_file 7\n")
    assert group_memory(root=root.path) == GroupMemory(8 * GIB, 6 * GIB)


def test_max_means_none(root):
    root.unified()
    root.write(f"{JOB}/memory.max", "max\n")
    root.write(f"{JOB}/memory.high", "max\n")
    root.write(f"{JOB}/cpu.max", "max 100000\n")
    assert group_memory(root=root.path) == GroupMemory(None, None)
    assert group_cores(root=root.path) is None


def test_the_smallest_along_the_path_counts(root):
    root.unified()
    root.write(f"{JOB}/memory.max", f"{8 * GIB}")
    root.write("sys/fs/cgroup/user.slice/memory.max", f"{4 * GIB}")
    root.write("sys/fs/cgroup/user.slice/memory.current", f"{1 * GIB}")
    root.write(f"{JOB}/cpu.max", "400000 100000\n")
    root.write("sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n")
    assert group_memory(root=root.path) == GroupMemory(4 * GIB, 3 * GIB)
    assert group_cores(root=root.path) == 1.5


def test_what_is_left_may_be_least_in_another_group_than_the_limit(root):
    root.unified()
    root.write(f"{JOB}/memory.max", f"{4 * GIB}")
    root.write(f"{JOB}/memory.current", "0")
    root.write("sys/fs/cgroup/user.slice/memory.max", f"{8 * GIB}")
    root.write("sys/fs/cgroup/user.slice/memory.current", f"{7 * GIB}")
    assert group_memory(root=root.path) == GroupMemory(4 * GIB, 1 * GIB)


def test_a_throttling_limit_is_a_limit(root):
    root.unified()
    root.write(f"{JOB}/memory.max", "max")
    root.write(f"{JOB}/memory.high", f"{2 * GIB}")
    assert group_memory(root=root.path).limit_bytes == 2 * GIB


def test_more_used_than_allowed_leaves_nothing(root):
    root.unified()
    root.write(f"{JOB}/memory.max", f"{2 * GIB}")
    root.write(f"{JOB}/memory.current", f"{3 * GIB}")
    assert group_memory(root=root.path).free_bytes == 0


def test_version_1_beside_an_empty_version_2(root):
    root.legacy()
    group = "sys/fs/cgroup/memory/docker/abc"
    root.write(f"{group}/memory.limit_in_bytes", f"{6 * GIB}\n")
    root.write(f"{group}/memory.usage_in_bytes", f"{2 * GIB}\n")
    root.write(f"{group}/memory.stat", f"inactive_file 1\ntotal_inactive_file {1 * GIB}\n")
    root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert group_memory(root=root.path) == GroupMemory(6 * GIB, 5 * GIB)


def test_version_1_quota_and_a_mount_point_with_a_space(root):
    root.legacy()
    group = "sys/fs/cgroup/cpu quota/docker/abc"
    root.write(f"{group}/cpu.cfs_quota_us", "250000\n")
    root.write(f"{group}/cpu.cfs_period_us", "100000\n")
    root.write("sys/fs/cgroup/cpu quota/cpu.cfs_quota_us", "-1\n")
    root.write("sys/fs/cgroup/cpu quota/cpu.cfs_period_us", "100000\n")
    assert group_cores(root=root.path) == 2.5


@pytest.mark.parametrize(
    ("path", "mount_root"),
    [
        ("/docker/abc", "/docker/abc"),  # a container of Docker with the host's group names
        ("/", "/"),  # a container with a namespace of its own
        ("/../../other", "/"),  # a process moved out of the namespace it looks from
    ],
)
def test_a_container_finds_its_group_at_the_mount(root, path, mount_root):
    root.unified(path, mount_root=mount_root)
    root.write("sys/fs/cgroup/memory.max", f"{3 * GIB}")
    assert group_memory(root=root.path).limit_bytes == 3 * GIB


def test_without_mountinfo_the_customary_place(root):
    root.write("proc/self/cgroup", "0::/job\n")
    root.write("sys/fs/cgroup/job/memory.max", f"{3 * GIB}")
    assert group_memory(root=root.path).limit_bytes == 3 * GIB
