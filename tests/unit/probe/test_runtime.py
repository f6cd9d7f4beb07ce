import json
import os
import platform
import subprocess
import sys

import pytest

from compass.probe import runtime
from compass.probe.runtime import describe_runtime, environment
from compass.records import ALLOCATORS, RuntimeSettings

THREADS = RuntimeSettings(threads=3)
linux = pytest.mark.skipif(sys.platform != "linux", reason="the C library's settings are glibc's")


def make(allocator, **inherited):
    return environment(RuntimeSettings(threads=3, allocator=allocator), inherited)


def test_threads_and_waiting():
    env = environment(THREADS, {"OMP_NUM_THREADS": "64", "OMP_WAIT_POLICY": "ACTIVE", "HOME": "/home/x"})
    for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
        assert env[f"{name}_NUM_THREADS"] == "3"
    assert env["OMP_WAIT_POLICY"] == "passive"
    assert env["PYTHONUNBUFFERED"] == "1"
    assert env["HOME"] == "/home/x"


@pytest.mark.parametrize(
    "name",
    [
        "OMP_THREAD_LIMIT",
        "OMP_DYNAMIC",
        "GOMP_SPINCOUNT",
        "KMP_BLOCKTIME",
        "PYTHONMALLOC",
        "PYTHONTRACEMALLOC",
        "PYTORCH_NO_CUDA_MEMORY_CACHING",
        "CUDA_LAUNCH_BLOCKING",
        "MALLOC_ARENA_MAX",
        "MALLOC_TOP_PAD_",
    ],
)
@pytest.mark.parametrize("allocator", ["fast", "tight", "system"])
def test_what_would_contradict_is_removed(name, allocator):
    assert name not in make(allocator, **{name: "1"})


@linux
def test_fast(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    env = make("fast")
    assert env["MALLOC_MMAP_THRESHOLD_"] == str(1024**3)
    assert env["MALLOC_TRIM_THRESHOLD_"] == str(1024**4)
    assert env["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"


@linux
@pytest.mark.parametrize(
    ("libc", "threshold"),
    [
        (("glibc", "2.34"), 32 * 1024**2),
        (("glibc", "2.35"), 1024**3),
        (("glibc", "3.0"), 1024**3),
        (("", ""), 1024**3),
    ],
)
def test_an_old_glibc_refuses_a_higher_threshold(monkeypatch, libc, threshold):
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    assert make("fast")["MALLOC_MMAP_THRESHOLD_"] == str(threshold)


@linux
def test_tight():
    env = make("tight")
    assert env["MALLOC_MMAP_THRESHOLD_"] == "65536"
    assert "MALLOC_TRIM_THRESHOLD_" not in env
    assert "GLIBC_TUNABLES" not in env


def test_system_leaves_everything_to_the_system():
    env = make(
        "system", MALLOC_MMAP_THRESHOLD_="1", GLIBC_TUNABLES="glibc.malloc.hugetlb=2", LD_PRELOAD="libjemalloc.so"
    )
    assert {name for name in env if "MALLOC" in name or "GLIBC" in name or "ALLOC_CONF" in name} == set()
    assert env["LD_PRELOAD"] == "libjemalloc.so"


@linux
def test_a_users_own_tunables_are_kept():
    env = make("fast", GLIBC_TUNABLES="glibc.pthread.rseq=0:glibc.malloc.hugetlb=2:glibc.malloc.tcache_count=4")
    assert env["GLIBC_TUNABLES"] == "glibc.pthread.rseq=0:glibc.malloc.tcache_count=4:glibc.malloc.hugetlb=1"


@linux
@pytest.mark.parametrize("threshold", ["glibc.malloc.mmap_threshold=1", "glibc.malloc.trim_threshold=1"])
def test_a_parents_thresholds_do_not_reach_the_worker(threshold):
    assert make("fast", GLIBC_TUNABLES=threshold)["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    assert "GLIBC_TUNABLES" not in make("system", GLIBC_TUNABLES=threshold)


@linux
@pytest.mark.parametrize("allocator", ["fast", "tight"])
def test_another_allocator_would_make_the_presets_void(allocator):
    assert make(allocator, LD_PRELOAD="/x/libjemalloc.so.2:/x/libother.so")["LD_PRELOAD"] == "/x/libother.so"
    assert "LD_PRELOAD" not in make(allocator, LD_PRELOAD="libtcmalloc_minimal.so.4")


@linux
def test_a_library_is_preloaded_before_the_users_own_and_configured(monkeypatch, tmp_path):
    monkeypatch.setattr(runtime, "library_file", lambda name: tmp_path / f"lib{name}.so.1")
    env = make("jemalloc", LD_PRELOAD="/x/libother.so:/x/libtcmalloc.so", MALLOC_CONF="prof:true", MIMALLOC_VERBOSE="1")
    assert env["LD_PRELOAD"] == f"{tmp_path}/libjemalloc.so.1:/x/libother.so"
    assert env["MALLOC_CONF"] == ALLOCATORS["jemalloc"].variables["MALLOC_CONF"]
    assert "MIMALLOC_VERBOSE" not in env
    assert not any(name.startswith("MALLOC_MMAP") for name in env)


@linux
def test_elsewhere_the_library_that_the_plan_names_is_preloaded():
    """An export is for another machine, whose loader finds the file by its name."""
    settings = RuntimeSettings(threads=1, allocator="tcmalloc", library="libtcmalloc_minimal.so.4.5.10")
    assert environment(settings, {}, here=False)["LD_PRELOAD"] == "libtcmalloc_minimal.so.4.5.10"


@linux
@pytest.mark.parametrize(("allocator", "huge"), [("fast", True), ("tight", False), ("tight_huge", True)])
def test_huge_pages(allocator, huge):
    assert ("GLIBC_TUNABLES" in make(allocator)) == huge


@linux
@pytest.mark.parametrize("allocator", ["fast", "tight"])
def test_expandable_segments(allocator):
    env = make(allocator, PYTORCH_CUDA_ALLOC_CONF="backend:cudaMallocAsync", PYTORCH_HIP_ALLOC_CONF="x:1")
    assert env["PYTORCH_ALLOC_CONF"] == env["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    assert "PYTORCH_HIP_ALLOC_CONF" not in env


@pytest.mark.parametrize("allocator", ["fast", "tight", "system"])
def test_elsewhere_there_is_no_glibc(monkeypatch, allocator):
    monkeypatch.setattr(sys, "platform", "darwin")
    env = make(allocator)
    assert {name for name in env if "MALLOC" in name or "GLIBC" in name or "ALLOC_CONF" in name} == set()


def test_the_parents_environment_is_the_default_and_stays(monkeypatch):
    monkeypatch.setenv("OMP_DYNAMIC", "TRUE")
    assert "OMP_DYNAMIC" not in environment(THREADS)
    assert os.environ["OMP_DYNAMIC"] == "TRUE"


HOW = """
import ctypes, json, sys
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.mallinfo2.restype = ctypes.c_void_p, [ctypes.c_size_t], Info
def mapped(size):
    before = libc.mallinfo2().hblks
    for _ in range(8):  # the first may find room in the heap
        libc.malloc(size)
    return libc.mallinfo2().hblks > before
print(json.dumps([mapped(200 * 2**20), mapped(100 * 2**10)]))
"""


@linux
@pytest.mark.parametrize(
    ("allocator", "large", "small"), [("fast", False, False), ("tight", True, True), ("system", True, False)]
)
def test_glibc_really_takes_the_presets(allocator, large, small):
    if platform.libc_ver() < ("glibc", "2.33"):
        pytest.skip("mallinfo2 came with glibc 2.33")
    env = environment(RuntimeSettings(threads=1, allocator=allocator))
    done = subprocess.run([sys.executable, "-c", HOW], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [large, small]


@pytest.mark.slow
def test_torch_really_takes_the_threads():
    env = environment(RuntimeSettings(threads=1, allocator="tight"))
    code = "import json; from compass.probe.runtime import describe_runtime; print(json.dumps(describe_runtime()))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=True
    )
    found = json.loads(done.stdout)
    assert found["threads"] == "1"
    assert found["OMP_WAIT_POLICY"] == "passive"
    if sys.platform == "linux":
        assert found["MALLOC_MMAP_THRESHOLD_"] == "65536"


def test_the_record_names_the_c_library():
    assert describe_runtime()["libc"]
