import mmap
import os
import subprocess
import sys

import pytest

from compass.device.process import ProcessMemory, process_memory, reset_peak_rss

KIB = 1024
SIZE = 64 * 1024**2
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_reads_the_status_file(root):
    root.process(data=500, rss=400, file=100, shared=20, peak_rss=900, swap=7)
    memory = process_memory(root=root.path)
    assert memory == ProcessMemory(500 * KIB, 400 * KIB, 120 * KIB, 900 * KIB, 7 * KIB)
    assert memory.footprint_bytes == 620 * KIB


def test_the_footprint_is_never_less_than_what_is_resident():
    assert ProcessMemory(data_bytes=10, rss_bytes=50, rss_file_bytes=5, peak_rss_bytes=50).footprint_bytes == 50


def test_a_zombie_holds_nothing(root):
    root.write("proc/7/status", "Name:\tpython\nState:\tZ (zombie)\n")
    assert process_memory(7, root=root.path) == ProcessMemory(0, 0, 0, 0)


def test_an_absent_process_is_an_error(root):
    root.memory()
    with pytest.raises(ProcessLookupError, match="no process 7"):
        process_memory(7, root=root.path)


def test_without_proc_the_resident_set_stands_for_all(root):
    memory = process_memory(root=root.path)
    assert memory.data_bytes == memory.rss_bytes > 0
    assert memory.rss_file_bytes == 0
    assert memory.peak_rss_bytes >= memory.rss_bytes


def test_without_proc_an_absent_process_is_an_error(root):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(ProcessLookupError):
        process_memory(child.pid, root=root.path)


@linux
def test_untouched_memory_counts_as_data_and_touched_memory_as_resident():
    before = process_memory()
    with mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        mapped = process_memory()
        for start in range(0, SIZE, 4096):
            block[start] = 1
        touched = process_memory()
    assert mapped.data_bytes - before.data_bytes >= SIZE
    assert mapped.rss_bytes - before.rss_bytes < SIZE // 2
    assert touched.rss_bytes - before.rss_bytes > SIZE // 2
    assert touched.footprint_bytes - before.footprint_bytes >= SIZE


@linux
def test_another_process_can_be_read():
    assert process_memory(os.getpid()).data_bytes == pytest.approx(process_memory().data_bytes, rel=0.2)


@linux
def test_the_peak_can_start_anew():
    block = b"x" * SIZE
    del block
    peak = process_memory().peak_rss_bytes
    if reset_peak_rss():
        assert process_memory().peak_rss_bytes <= peak - SIZE // 2


def test_a_system_that_cannot_reset_says_so(root):
    assert reset_peak_rss(root=root.path) is False
