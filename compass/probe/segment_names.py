"""Names of a training step's segments, the same for a worker's measurements and for simulated ones. Loads no torch.

`compass.probe.segments` explains what each segment is.
"""

from __future__ import annotations

from collections.abc import Mapping


def block_name(index: int, n_blocks: int) -> str:
    """Name of a block: `first`, its number, or `last`. The only block of a model is its last."""
    if index == n_blocks - 1:
        return "last"
    return "first" if index == 0 else str(index)


def by_ends(peaks: Mapping[str, int], n_blocks: int) -> tuple[tuple[str, int], ...]:
    """`peaks`, where of the blocks named by number only the two next to the ends remain, as `early` and `late`.

    A name is `phase:block` or `phase:block.part`. In a model of three blocks, the one in the middle is both.
    """
    named: dict[str, int] = {}
    for name, n_bytes in peaks.items():
        phase, _, place = name.partition(":")
        block, dot, part = place.partition(".")
        if not block.isdigit():
            named[name] = n_bytes
            continue
        for end, index in (("early", 1), ("late", n_blocks - 2)):
            if int(block) == index:
                named[f"{phase}:{end}{dot}{part}"] = n_bytes
    return tuple(named.items())
