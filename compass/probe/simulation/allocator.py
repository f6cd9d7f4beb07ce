"""A caching device allocator that behaves like the default of PyTorch's `c10/cuda/CUDACachingAllocator.cpp`.

Requests are rounded up to 512 bytes and served best-fit from two pools. A pool without a large enough block reserves a whole
segment from the device. Blocks are split and merged only inside their segment, so memory fragments, and `reserved` grows
beyond the most that was ever allocated at once.

A large block is split only if more than a MiB would be left, so it may be that much larger than the request. PyTorch counts
both: `requested_bytes` are the tensors' bytes, `allocated_bytes` (reported by `max_memory_allocated`) their blocks'. The
first are exactly affine in the load, the second only nearly.

With expandable segments (on Linux only, where workers request them), each pool is one segment that grows at its end by pages.
Memory that a smaller batch left free joins the new pages, so that batches of many sizes waste little. Every block is split
to size.

One difference is deliberate. If the device refuses a segment, the real allocator empties its cache and tries again. Here the
refusal is final, because a configuration that depends on such retries stalls in every step.
"""

from __future__ import annotations

from bisect import bisect_left, insort

BLOCK_ROUNDING = 512
SMALL_LIMIT = 1024**2
"""Requests up to this size are served from the small pool."""
SMALL_SEGMENT = 2 * 1024**2
LARGE_SEGMENT = 20 * 1024**2
"""Segment of requests up to 10 MiB; a larger request gets a segment of its own, rounded up to 2 MiB."""
OWN_SEGMENT_FROM = 10 * 1024**2
SEGMENT_ROUNDING = 2 * 1024**2
SMALL_PAGE, LARGE_PAGE = 2 * 1024**2, 20 * 1024**2
"""Steps by which an expandable segment grows."""

_NONE = -1


class CachingAllocator:
    """Returns numbers of blocks. All sizes are bytes; `start_peaks` resets the peaks."""

    def __init__(self, *, expandable: bool = False) -> None:
        self._expandable = expandable
        self._tails = {True: _NONE, False: _NONE}
        """The last block of the small and of the large pool's expandable segment."""
        self.requested = 0
        self.allocated = 0
        self.reserved = 0
        self.peak_requested = 0
        self.peak_allocated = 0
        self._asked: list[int] = []
        self._size: list[int] = []
        self._before: list[int] = []
        self._after: list[int] = []
        self._is_free: list[bool] = []
        self._is_small: list[bool] = []
        self._small: list[tuple[int, int]] = []
        self._large: list[tuple[int, int]] = []

    def malloc(self, n_bytes: int) -> int:
        """Number of a block of at least `n_bytes`."""
        size = (n_bytes + BLOCK_ROUNDING - 1) // BLOCK_ROUNDING * BLOCK_ROUNDING or BLOCK_ROUNDING
        small = size <= SMALL_LIMIT
        pool = self._small if small else self._large
        place = bisect_left(pool, (size, _NONE))
        if place < len(pool):
            block = pool.pop(place)[1]
            self._is_free[block] = False
        else:
            block = self._reserve(size, small=small)
        rest = self._size[block] - size
        if rest > SMALL_LIMIT or ((small or self._expandable) and rest >= BLOCK_ROUNDING):
            self._split(block, size, rest, pool)
        self._asked[block] = n_bytes
        self.requested += n_bytes
        self.allocated += self._size[block]
        self.peak_requested = max(self.peak_requested, self.requested)
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def start_peaks(self) -> None:
        """Reset the peaks to the present values."""
        self.peak_requested, self.peak_allocated = self.requested, self.allocated

    def free(self, block: int) -> None:
        """Return `block` to its pool, merged with free neighbours."""
        self.requested -= self._asked[block]
        self.allocated -= self._size[block]
        pool = self._small if self._is_small[block] else self._large
        before, after = self._before[block], self._after[block]
        if after != _NONE and self._is_free[after]:
            self._swallow(block, after, pool)
        if before != _NONE and self._is_free[before]:
            del pool[bisect_left(pool, (self._size[before], before))]
            self._merge(before, block)
            block = before
        self._is_free[block] = True
        insort(pool, (self._size[block], block))

    def _new(self, size: int, before: int, after: int, *, small: bool) -> int:
        self._size.append(size)
        self._asked.append(0)
        self._before.append(before)
        self._after.append(after)
        self._is_free.append(False)
        self._is_small.append(small)
        return len(self._size) - 1

    def _reserve(self, size: int, *, small: bool) -> int:
        if self._expandable:
            return self._expand(size, small=small)
        if small:
            segment = SMALL_SEGMENT
        elif size < OWN_SEGMENT_FROM:
            segment = LARGE_SEGMENT
        else:
            segment = (size + SEGMENT_ROUNDING - 1) // SEGMENT_ROUNDING * SEGMENT_ROUNDING
        self.reserved += segment
        return self._new(segment, _NONE, _NONE, small=small)

    def _expand(self, size: int, *, small: bool) -> int:
        """A block of at least `size` at the segment's end."""
        page, pool, tail = (
            (SMALL_PAGE, self._small, self._tails[True]) if small else (LARGE_PAGE, self._large, self._tails[False])
        )
        has_room = tail != _NONE and self._is_free[tail]
        missing = size - (self._size[tail] if has_room else 0)
        grown = (missing + page - 1) // page * page
        self.reserved += grown
        if has_room:
            del pool[bisect_left(pool, (self._size[tail], tail))]
            self._is_free[tail] = False
            self._size[tail] += grown
            return tail
        block = self._new(grown, tail, _NONE, small=small)
        if tail != _NONE:
            self._after[tail] = block
        self._tails[small] = block
        return block

    def _split(self, block: int, size: int, rest: int, pool: list[tuple[int, int]]) -> None:
        after = self._after[block]
        piece = self._new(rest, block, after, small=self._is_small[block])
        self._is_free[piece] = True
        if after != _NONE:
            self._before[after] = piece
        elif self._expandable:
            self._tails[self._is_small[block]] = piece
        self._after[block] = piece
        self._size[block] = size
        insort(pool, (rest, piece))

    def _swallow(self, block: int, after: int, pool: list[tuple[int, int]]) -> None:
        del pool[bisect_left(pool, (self._size[after], after))]
        self._merge(block, after)

    def _merge(self, block: int, after: int) -> None:
        """Make `after` a part of `block`, its left neighbour."""
        self._size[block] += self._size[after]
        self._is_free[after] = False
        beyond = self._after[after]
        self._after[block] = beyond
        if beyond != _NONE:
            self._before[beyond] = block
        elif self._expandable:
            self._tails[self._is_small[block]] = block
