"""The peak of live bytes in each segment of a training step.

The place of the peak moves with the model and the load: the forward pass, the backward pass of one layer, the tail, the
optimizer. Within one place live bytes are affine in the load; their maximum over the places is not. So each place is a
segment with a peak of its own. Hooks on the model and the optimizer mark where a segment begins. The training step itself
has no marks, because it belongs to the user and is the one that training runs.

    forward:stem → forward:first → early → late → forward:last → forward:head
    → backward:head → backward:last → late → early → backward:first → backward:stem → optimizer

Under activation checkpointing, a layer runs a second time within a step, before its backward pass: `recompute:last` and so
on. Among the layers between the first and the last, only those next to either end have segments, `early` and `late`:
activations fall and gradients grow from one layer to the next, so the peak among them is at an end, and the load decides
at which. In a model of three layers, one layer is both.

A model whose loss needs a gradient (forces from an energy) runs backward through its layers within its forward pass:
`gradient:last` and so on, after `forward:head`. The step's own backward pass then goes through that gradient first, in
reverse: `second:first` to `second:last`, before `backward:head`. The peak of such a model lies there. It moves from one
part of a layer to another as the model grows wider, so parts have segments too (`second:first.linear`), and so have
modules outside all layers (`second:other.embedding`).

A model without repeated layers has a segment of its backward pass for each of its parts (`backward:other.readout`): small
batches peak where the gradients of weights appear, large ones where the gradients of activations do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from compass.probe.segment_names import block_name, by_ends

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from compass.device import Meter
    from compass.workloads.optimizers import AnyOptimizer

MARK = "compass:"
"""Prefix of the marks' names among the profiler's events."""
START = "forward:stem"
PARTS_DEPTH = 2
"""Parts of a layer, and their parts: in MACE, a small network within a layer, with layers of its own, decides the peak."""


class ProfiledStep(NamedTuple):
    """Live bytes of one step."""

    segments: tuple[tuple[str, int], ...]
    """(segment, its own peak of live bytes), in the order the step reached them."""
    left_bytes: int
    """Live bytes after the step minus those before it: zero, unless a step keeps something for the next."""


def profiled_step(  # noqa: PLR0913 - each varies on its own
    step: Callable[[], object],
    model: torch.nn.Module,
    blocks: list[torch.nn.Module],
    optimizer: AnyOptimizer,
    batch: Any,
    meter: Meter,
    *,
    others: Callable[[], Iterable[torch.Tensor]] = tuple,
) -> ProfiledStep:
    """Run `step` once and measure the peak of live bytes in each segment.

    `others` are tensors beside those of the model, the optimizer and the batch that are there before the step. On the CPU, a peak is the largest running sum of the profiler's memory events, added to the bytes held before the step:
    exact to the byte. On an accelerator it is the allocator's own peak, which is reset at every mark.
    """
    if meter.peak_live_bytes() is None:
        held_bytes = _held_bytes(model, optimizer, batch, others())
        peaks, left_bytes = _profiled(step, model, blocks, optimizer, held_bytes)
    else:
        peaks, left_bytes = _metered(step, model, blocks, optimizer, meter)
    return ProfiledStep(by_ends(peaks, len(blocks)), left_bytes)


def _held_bytes(model: torch.nn.Module, optimizer: AnyOptimizer, batch: Any, others: Iterable[torch.Tensor]) -> int:
    """Bytes held before the step. Nothing here may outlive the call, else a step that drops its gradients would not free them."""
    weights = list(model.parameters())
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    return _storage_bytes(
        [*weights, *gradients, *model.buffers(), *_tensors(optimizer.state), *_tensors(batch), *others]
    )


def _profiled(
    step: Callable[[], object],
    model: torch.nn.Module,
    blocks: list[torch.nn.Module],
    optimizer: AnyOptimizer,
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
    optimizer: AnyOptimizer,
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
    held_bytes = meter.peak_live_bytes() or 0  # just after a reset, the peak equals the present live bytes
    with _marks(model, blocks, optimizer, mark):
        step()
        mark(START)
    return peaks, (meter.peak_live_bytes() or 0) - held_bytes


@contextmanager
def _marks(
    model: torch.nn.Module,
    blocks: list[torch.nn.Module],
    optimizer: AnyOptimizer,
    mark: Callable[[str], None],
) -> Iterator[None]:
    """Call `mark` with a segment's name whenever a step enters it."""
    handles = [
        *_mark_forward(blocks, mark),
        *(_mark_gradients(part, name, mark, of_step=not blocks) for name, part in _parts(model, blocks)),
        *_mark_head(blocks, mark),
        *_mark_backward(model, blocks, mark),
        optimizer.register_step_pre_hook(lambda *_: mark("optimizer")),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mark_forward(blocks: list[torch.nn.Module], mark: Callable[[str], None]) -> list[RemovableHandle]:
    """`forward:` where a block begins; `recompute:` where it begins a second time, under activation checkpointing."""
    entered: set[int] = set()

    def enter(index: int) -> None:
        mark(f"{'recompute' if index in entered else 'forward'}:{block_name(index, len(blocks))}")
        entered.add(index)

    return [block.register_forward_pre_hook(lambda *_, index=index: enter(index)) for index, block in enumerate(blocks)]


def _mark_head(blocks: list[torch.nn.Module], mark: Callable[[str], None]) -> list[RemovableHandle]:
    """`forward:head` where the last block ends for the first time."""
    has_left = False

    def leave(*_: object) -> None:
        nonlocal has_left
        if not has_left:
            mark("forward:head")
        has_left = True

    return [block.register_forward_hook(leave) for block in blocks[-1:]]


def _mark_backward(
    model: torch.nn.Module, blocks: list[torch.nn.Module], mark: Callable[[str], None]
) -> list[RemovableHandle]:
    """`backward:` where the first gradient of a block's weights is complete.

    Weights outside all blocks belong to the head before the backward pass reaches a block, and to the stem afterwards; in a
    model without blocks, to the stem.
    """
    name_of = {
        id(weight): block_name(index, len(blocks))
        for index, block in enumerate(blocks)
        for weight in block.parameters()
    }
    outside = "head" if blocks else "stem"
    marked: set[str] = set()

    def complete(weight: torch.Tensor) -> None:
        nonlocal outside
        name = name_of.get(id(weight), outside)
        if id(weight) in name_of:
            outside = "stem"
        if name not in marked:
            marked.add(name)
            mark(f"backward:{name}")

    return [_on_gradient(weight, complete) for weight in model.parameters() if weight.requires_grad]


def _parts(model: torch.nn.Module, blocks: list[torch.nn.Module]) -> Iterator[tuple[str, torch.nn.Module]]:
    """(segment name, module) of every module down to `PARTS_DEPTH` below a block, or below the model but outside all blocks."""
    roots = [("other", model), *((block_name(index, len(blocks)), block) for index, block in enumerate(blocks))]
    waiting = [(name, root, 0) for name, root in roots]
    while waiting:
        name, module, depth = waiting.pop()
        if (depth and module in blocks) or isinstance(module, torch.jit.ScriptModule):  # script modules take no hooks
            continue
        if module is not model:
            yield name, module
        if depth < PARTS_DEPTH:
            waiting += [(f"{name}.{part}", child, depth + 1) for part, child in module.named_children()]


def _mark_gradients(
    module: torch.nn.Module, name: str, mark: Callable[[str], None], *, of_step: bool
) -> RemovableHandle:
    """`gradient:` where a gradient taken within the forward pass reaches the output of `module`.

    `second:` where the step's own backward pass reaches that gradient; with `of_step`, `backward:` where it reaches the
    output itself.
    """

    def reached(gradient: torch.Tensor) -> None:
        # Gradients are enabled only while a gradient is taken that is itself differentiated later; in the step's own
        # backward pass they are not.
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


def _on_gradient(weight: torch.nn.Parameter, call: Callable[[torch.Tensor], None]) -> RemovableHandle:
    handle: RemovableHandle = weight.register_post_accumulate_grad_hook(call)  # type: ignore[no-untyped-call]
    return handle


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    """Every tensor in nested dictionaries, sequences and plain objects; references may form circles."""
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
    """The tensors that own the memory: a sparse tensor has no storage of its own."""
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()  # noqa: SLF001 - the public ones want it coalesced
    if tensor.layout in {torch.sparse_csr, torch.sparse_bsr}:
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in {torch.sparse_csc, torch.sparse_bsc}:
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return (tensor,)


def _storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the storages behind `tensors`, each counted once."""
    held = [part.untyped_storage() for tensor in tensors for part in _holders(tensor)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in held}.values())
