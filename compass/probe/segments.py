"""Where in a training step the memory peaks.

The place of the peak moves with the model and the load: the forward pass, the backward pass of one layer, the tail, the
optimizer. Each place alone is affine in the load, their maximum is not; so each one's own peak is measured. The marks
between them are hooks on the model and the optimizer, never in the training step, which is the user's and training's.

    forward:stem → forward:first → early → late → forward:last → forward:head
    → backward:head → backward:last → late → early → backward:first → backward:stem → optimizer

A layer that runs a second time within a step is being recomputed for its backward pass: `recompute:last` and so on. Of the
layers between the first and the last, the one next to either end speaks for all: activations fall and gradients grow from
one to the next, so that the peak among them is at an end, and at which one depends on the load. A model of three layers
has one such layer, which is both.

A model that answers with a gradient (forces of an energy) passes backward through its layers within its forward pass:
`gradient:last` and so on, after `forward:head`. The step's own backward pass then goes through that gradient first, the
other way round: `second:first` to `second:last`, before `backward:head`. Here the peak of such a model lies. It moves from
one part of a layer to another as the model grows wider, so that parts have segments too (`second:first.linear`), and so
has what is in no layer (`second:other.embedding`).

A model without repeated layers has a segment of its backward pass for each of its parts (`backward:other.readout`): small
batches peak where the gradients of weights appear, large ones where those of activations do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from compass.device import Meter

MARK = "compass:"
"""Begins the names of the marks among the profiler's events."""
START = "forward:stem"
PARTS_DEPTH = 2
"""A layer's parts, and theirs: in MACE it is a small network within a layer, with layers of its own, that matters."""


class ProfiledStep(NamedTuple):
    """What one step held."""

    segments: tuple[tuple[str, int], ...]
    """(segment, its own peak of live bytes), in the order the step reached them."""
    left_bytes: int
    """Live bytes after it beyond those before it: zero, unless something is kept from step to step."""


def profiled_step(
    step: Callable[[], object],
    model: torch.nn.Module,
    blocks: list[torch.nn.Module],
    optimizer: torch.optim.Optimizer,
    batch: Any,
    meter: Meter,
) -> ProfiledStep:
    """Run `step` once and say what it held.

    On the CPU the peak is the running sum of the profiler's memory events over what was held before the step, exact
    to the byte; on an accelerator it is the allocator's own peak, started anew at every mark.
    """
    if meter.peak_live_bytes() is None:
        weights = list(model.parameters())
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        held = [*weights, *gradients, *model.buffers(), *_tensors(optimizer.state), *_tensors(batch)]
        held_bytes = _storage_bytes(held)
        peaks, left_bytes = _profiled(step, model, blocks, optimizer, held_bytes)
    else:
        peaks, left_bytes = _metered(step, model, blocks, optimizer, meter)
    return ProfiledStep(_by_ends(peaks, len(blocks)), left_bytes)


def _profiled(
    step: Callable[[], object],
    model: torch.nn.Module,
    blocks: list[torch.nn.Module],
    optimizer: torch.optim.Optimizer,
    held_bytes: int,
) -> tuple[dict[str, int], int]:
    def mark(name: str) -> None:
        with torch.profiler.record_function(MARK + name):
            pass

    with (
        torch.autograd.profiler.profile(use_cpu=True, profile_memory=True, use_kineto=True) as profile,
        _marks(model, blocks, optimizer, mark),
    ):
        step()
    named = ((event.name(), event) for event in profile.kineto_results.events())
    events = [(one.start_ns(), name, one) for name, one in named if name == "[memory]" or name.startswith(MARK)]
    peaks: dict[str, int] = {START: held_bytes}
    segment, now = START, held_bytes
    for _, name, event in sorted(events, key=lambda event: event[0]):
        if name.startswith(MARK):
            segment = name.removeprefix(MARK)
        else:
            now += event.nbytes()
        peaks[segment] = max(peaks.get(segment, 0), now)
    return peaks, now - held_bytes


def _metered(
    step: Callable[[], object],
    model: torch.nn.Module,
    blocks: list[torch.nn.Module],
    optimizer: torch.optim.Optimizer,
    meter: Meter,
) -> tuple[dict[str, int], int]:
    peaks: dict[str, int] = defaultdict(int)
    segment = START

    def mark(name: str) -> None:
        nonlocal segment
        peaks[segment] = max(peaks[segment], meter.peak_live_bytes() or 0)
        meter.reset_peak()
        segment = name

    meter.reset_peak()
    held_bytes = meter.peak_live_bytes() or 0  # a peak that has just been started anew is what is held
    with _marks(model, blocks, optimizer, mark):
        step()
        mark(START)
    return peaks, (meter.peak_live_bytes() or 0) - held_bytes


@contextmanager
def _marks(
    model: torch.nn.Module,
    blocks: list[torch.nn.Module],
    optimizer: torch.optim.Optimizer,
    mark: Callable[[str], None],
) -> Iterator[None]:
    """Call `mark` with a segment's name whenever a step enters it."""
    names = [_block_name(index, len(blocks)) for index in range(len(blocks))]
    entered: set[object] = set()

    def entering(index: int) -> None:
        mark(f"{'recompute' if index in entered else 'forward'}:{names[index]}")
        entered.add(index)

    handles = [
        block.register_forward_pre_hook(lambda *_, index=index: entering(index)) for index, block in enumerate(blocks)
    ]

    handles += [_on_gradient_of_output(part, name, mark, of_step=not blocks) for name, part in _parts(model, blocks)]
    if blocks:
        left: list[None] = []

        def leaving(*_: object) -> None:
            if not left:
                mark("forward:head")
            left.append(None)

        handles.append(blocks[-1].register_forward_hook(leaving))
    owner = {id(p): index for index, block in enumerate(blocks) for p in block.parameters()}
    reached_blocks = not blocks

    def accumulated(parameter: torch.Tensor) -> None:
        nonlocal reached_blocks
        index = owner.get(id(parameter))
        reached_blocks = reached_blocks or index is not None
        name = names[index] if index is not None else "stem" if reached_blocks else "head"
        place = ("backward", name if index is None else index)
        if place not in entered:
            entered.add(place)
            mark(f"backward:{name}")

    handles += [_on_gradient(p, accumulated) for p in model.parameters() if p.requires_grad]
    handles.append(optimizer.register_step_pre_hook(lambda *_: mark("optimizer")))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _parts(model: torch.nn.Module, blocks: list[torch.nn.Module]) -> Iterator[tuple[str, torch.nn.Module]]:
    """Every module down to `PARTS_DEPTH` below a block, or below the model outside of them, by the name of its segments."""
    roots = [("other", model), *((_block_name(index, len(blocks)), block) for index, block in enumerate(blocks))]
    waiting = [(name, root, 0) for name, root in roots]
    while waiting:
        name, module, depth = waiting.pop()
        if (depth and module in blocks) or isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
            continue
        if module is not model:
            yield name, module
        if depth < PARTS_DEPTH:
            waiting += [(f"{name}.{part}", child, depth + 1) for part, child in module.named_children()]


def _on_gradient_of_output(module: torch.nn.Module, name: str, mark: Callable[[str], None], *, of_step: bool) -> Any:
    """Mark when a gradient taken within the forward pass comes to the output of `module`, and when the step's own comes to that.

    With `of_step`, also when the step's own comes to the output itself.
    """

    def reached(gradient: torch.Tensor) -> None:
        # Only a gradient that is to be differentiated itself is taken with gradients enabled; the step's own is not.
        if torch.is_grad_enabled():
            mark(f"gradient:{name}")
            if gradient.requires_grad:
                gradient.register_hook(lambda _: mark(f"second:{name}"))  # type: ignore[no-untyped-call]
        elif of_step:
            mark(f"backward:{name}")

    def watch(*given: Any) -> None:
        for tensor in filter(lambda tensor: tensor.requires_grad, _tensors(given[2])):
            tensor.register_hook(reached)  # type: ignore[no-untyped-call]

    return module.register_forward_hook(watch)


def _on_gradient(parameter: torch.nn.Parameter, call: Callable[[torch.Tensor], None]) -> Any:
    return parameter.register_post_accumulate_grad_hook(call)  # type: ignore[no-untyped-call]


def _block_name(index: int, n_blocks: int) -> str:
    """`last` is named first: in a model of one block, that block is its last."""
    if index == n_blocks - 1:
        return "last"
    return "first" if index == 0 else str(index)


def _by_ends(peaks: dict[str, int], n_blocks: int) -> tuple[tuple[str, int], ...]:
    """`peaks` with the blocks in between, named by number, replaced by the two next to the ends."""
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


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    """Every tensor in a nest of dictionaries, sequences and plain objects, which may lead back to itself."""
    seen: set[int] = set()
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            yield from _holders(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
        elif hasattr(item, "__dict__"):
            waiting.append(vars(item))


def _holders(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What holds memory: a sparse tensor has no storage of its own."""
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()  # noqa: SLF001 - the public ones want it coalesced
    if tensor.layout in {torch.sparse_csr, torch.sparse_bsr}:
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in {torch.sparse_csc, torch.sparse_bsc}:
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return (tensor,)


def _storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the storages behind `tensors`, each counted once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
