"""The allocator keeps its books, whatever is asked of it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from compass.probe.simulation.allocator import LARGE_SEGMENT, SMALL_SEGMENT, CachingAllocator

MIB = 1024**2


def test_requests_are_rounded_and_small_ones_share_a_segment():
    allocator = CachingAllocator()
    allocator.malloc(1)
    allocator.malloc(513)
    assert allocator.allocated == 512 + 1024
    assert allocator.reserved == SMALL_SEGMENT


def test_segments_by_size():
    allocator = CachingAllocator()
    allocator.malloc(2 * MIB)
    assert allocator.reserved == LARGE_SEGMENT
    allocator.malloc(33 * MIB + 1)
    assert allocator.reserved == LARGE_SEGMENT + 34 * MIB


def test_freed_neighbours_merge_and_serve_again():
    allocator = CachingAllocator()
    blocks = [allocator.malloc(5 * MIB) for _ in range(4)]
    assert allocator.reserved == LARGE_SEGMENT
    for block in (blocks[1], blocks[0], blocks[2]):
        allocator.free(block)
    allocator.malloc(15 * MIB)
    assert allocator.reserved == LARGE_SEGMENT


def test_pieces_that_do_not_touch_cannot_serve():
    allocator = CachingAllocator()
    blocks = [allocator.malloc(5 * MIB) for _ in range(4)]
    allocator.free(blocks[0])
    allocator.free(blocks[2])
    allocator.malloc(8 * MIB)
    assert allocator.reserved == 2 * LARGE_SEGMENT  # ten MiB are free, but in two pieces


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 40 * MIB), st.integers(0, 5)), max_size=80))
def test_what_is_given_back_is_all_there_again(requests):
    allocator = CachingAllocator()
    held: list[tuple[int, int]] = []
    asked = 0
    for n_bytes, keep in requests:
        held.append((allocator.malloc(n_bytes), n_bytes))
        asked += n_bytes
        if keep == 0:
            block, n_freed = held.pop(0)
            allocator.free(block)
            asked -= n_freed
        assert asked <= allocator.allocated <= asked + 512 * len(held) + (MIB + 512) * len(held)
        assert allocator.allocated <= allocator.peak_allocated <= allocator.reserved
        assert allocator.requested == asked <= allocator.peak_requested <= allocator.peak_allocated
    for block, _ in held:
        allocator.free(block)
    assert allocator.allocated == allocator.requested == 0
    allocator.start_peaks()
    assert allocator.peak_allocated == allocator.peak_requested == 0
    reserved = allocator.reserved
    for n_bytes, _ in requests[:1]:
        allocator.malloc(n_bytes)
    assert allocator.reserved == reserved  # everything merged back into whole segments
