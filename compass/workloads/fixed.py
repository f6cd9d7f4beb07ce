"""One model of the user's as a workload: a module, its data loader and its loss, or a LightningModule, as they are.

A sample is an item of the loader's dataset. A batch is collated by the loader's own function, and the step is the module's: its
loss alone, or the whole update where a LightningModule optimizes manually or its optimizer asks for the loss itself.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.utils.data import DataLoader, IterableDataset

from compass.errors import InputError
from compass.records import digest
from compass.records.nouns import SAMPLES
from compass.workloads.item_sizes import cutoff_of, n_elements, sizes_of
from compass.workloads.lightning_step import (
    attach,
    closure_step,
    configured,
    is_lightning,
    loss_of_step,
    manual_step,
    own_optimizers,
    unused_members,
)
from compass.workloads.optimizers import needs_closure
from compass.workloads.trainer_stand_in import TrainerStandIn, attached

if TYPE_CHECKING:
    from compass.records import Batch, Knobs
    from compass.workloads.protocol import PlainLoad

N_STREAMED = 256
"""Items kept of a dataset that can only be iterated over."""

N_UNTOLD_BATCHES = 1_000
"""Batches that an epoch of an endless dataset is said to have, where an optimizer asks for them."""

_LIGHTNING = ("pytorch_lightning.", "lightning.")

Loss = Callable[[torch.nn.Module, Any], torch.Tensor]
"""The loss of a module on a collated batch, on its device."""


class FixedModel:
    """A workload with one model: nothing of it is searched but the way to train it."""

    capacity: tuple[str, ...] = ()

    def __init__(self, module: torch.nn.Module, loader: DataLoader[Any], loss: Loss | None = None) -> None:
        """`loss` may be left out for a LightningModule.

        Raises:
            InputError: there is no loss, the dataset is empty, or its items are batches.
        """
        if loss is None and not is_lightning(module):
            raise InputError(
                "loss",
                got=f"none, and a {type(module).__name__} has no training_step",
                expected="a function loss(model, batch) that returns a scalar",
                fix="Pass it, or a LightningModule.",
            )
        if loader.batch_size is None and loader.batch_sampler is None:
            raise InputError(
                "loader",
                got="batch_size=None: an item of its dataset is a whole batch",
                expected="a loader that makes batches of samples, so that other batches can be tried",
                fix="Give the dataset single samples, and the loader a batch_size and, if needed, a collate_fn.",
            )
        self._module, self._loss, self._collate = module, loss, loader.collate_fn
        self.name = type(module).__name__
        self._items = _items_of(loader.dataset)
        self._n_samples = _length_of(loader.dataset)
        self.is_stream = self._n_samples is None
        self._is_lightning = is_lightning(module) and loss is None
        self._n_batches = _n_batches(loader)
        self.remarks: tuple[str, ...] = ()
        if self._is_lightning:
            self._follow(module)

    def _follow(self, module: Any) -> None:
        """Take the optimizers, the step and the remarks of a LightningModule."""
        self.optimizer = own_optimizers
        self.zeroes_late = True
        self.evaluates = module.automatic_optimization
        asking, is_scheduled = _optimizers_of(module, self._n_batches)
        self.remarks = (*unused_members(module), *_remarks_on(type(module).__name__, asking, is_scheduled=is_scheduled))
        if not module.automatic_optimization:
            self.step = manual_step
        elif asking:
            self.step = closure_step

    @property
    def n_samples(self) -> int | None:
        """Items of the dataset, if it tells."""
        return self._n_samples

    @cached_property
    def _sizes(self) -> dict[str, dict[str, float]]:
        return sizes_of(self._items, cutoff_of(self._module))

    @property
    def noun(self) -> str:
        """What an item is, in the plural: `graphs` if items have nodes and edges."""
        return "graphs" if "nodes" in self.features else SAMPLES

    @cached_property
    def features(self) -> tuple[str, ...]:
        """`nodes` and `edges` of graphs; else `samples` and, if these differ in size, the `elements` of their tensors."""
        return tuple(next(iter(self._sizes.values())))

    @cached_property
    def padded(self) -> tuple[str, ...]:
        """`elements`, if the loader's `collate_fn` pads items to the longest of a batch."""
        if "elements" not in self.features:
            return ()
        short, long = (self._items[int(f(self._sizes, key=self._n_elements))] for f in (min, max))
        try:
            alike, mixed, others = (
                n_elements(self._collate(list(pair))) for pair in ((short, short), (short, long), (long, long))
            )
        except Exception:  # noqa: BLE001 - the code is the user's; the probes of such a batch will say what is wrong
            return ()
        # Without padding, a mixed batch is half of either; with it, it is as large as one of two long items.
        return ("elements",) if mixed > (alike + 3 * others) / 4 else ()

    def _n_elements(self, name: str) -> float:
        return self._sizes[name]["elements"]

    def samples(self) -> Mapping[str, PlainLoad]:
        """The size of each item that was read."""
        return self._sizes

    def build(self, _: Knobs) -> torch.nn.Module:
        """A copy of the module, with the weights that it was given with, on the device that is the default now."""
        model = copy.deepcopy(self._module).to(torch.get_default_device())
        if self._is_lightning:
            attach(model, self._n_batches)
        return model

    def collate(self, batch: Batch) -> Any:
        """The items of `batch` as the loader would collate them."""
        return self._collate([self._items[int(name)] for name, copies in batch.members for _ in range(copies)])

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        """The user's loss."""
        return self._loss(model, batch) if self._loss is not None else loss_of_step(model, batch)

    @cached_property
    def digest(self) -> str:
        """Of the classes' source files, the module's structure, its parameters and the items' sizes."""
        module, text = self._module, ""
        shapes = [(name, tuple(one.shape), one.requires_grad) for name, one in module.named_parameters()]
        for made in (type(module), self._loss, type(self._items), self._collate):
            try:
                text += Path(inspect.getfile(cast("Any", made))).read_text(encoding="utf-8")
            except (OSError, TypeError, UnicodeDecodeError):  # in a notebook, or no Python
                continue
        return digest(self.name, text, str(module), shapes, sorted(self._sizes.items()))


def fixed_model(made: Any) -> FixedModel | None:
    """The workload of what a user's function or class made; None if that is not one model.

    It may be a module with a loader, and a loss if it is no LightningModule: `(module, loader)` or `(module, loader, loss)`; or a
    LightningModule that has its own loader.

    Raises:
        InputError: a part is missing.
    """
    parts = made if isinstance(made, tuple) else (made,)
    if not parts or not isinstance(parts[0], torch.nn.Module):
        return None
    module, loader, loss = (*parts, None, None)[:3]
    return FixedModel(module, loader_of(module, loader), loss)


def _optimizers_of(module: Any, n_batches: int) -> tuple[torch.optim.Optimizer | None, bool]:
    """The module's optimizer that asks for the loss itself, and whether there is a learning-rate scheduler.

    Optimizers that cannot be made yet say so when they are made for a step.
    """
    try:
        with attached(module, TrainerStandIn(n_batches)):
            optimizers, schedulers = configured(module)
        return next(filter(needs_closure, optimizers), None), bool(schedulers)
    except Exception:  # noqa: BLE001 - the code is the user's
        return None, False


def _remarks_on(name: str, asking: torch.optim.Optimizer | None, *, is_scheduled: bool) -> tuple[str, ...]:
    """What plans leave out of the optimizers of the module `name`, a sentence each."""
    remarks = []
    if is_scheduled:
        remarks.append(f"the learning-rate scheduler of {name} is not stepped: it changes neither memory nor time")
    if asking is not None and (n_kept := asking.defaults.get("history_size")):
        remarks.append(
            f"{type(asking).__name__} goes on filling its memory for {n_kept} updates, with two copies of the weights each: "
            "plans do not count them"
        )
    return tuple(remarks)


def _n_batches(loader: DataLoader[Any]) -> int:
    """Batches of an epoch of the user's; 1,000 of a stream that does not tell."""
    try:
        return len(loader)
    except TypeError:
        return N_UNTOLD_BATCHES


def loader_of(module: torch.nn.Module, given: Any = None) -> DataLoader[Any]:
    """The training loader: `given`, or that of a `given` data module, or of a LightningModule itself.

    Raises:
        InputError: there is none.
    """
    if isinstance(given, DataLoader):
        return given
    source: Any = module if given is None else given
    has_one = getattr(type(source), "train_dataloader", None)
    if has_one is not None and not has_one.__module__.startswith(
        _LIGHTNING
    ):  # Lightning's own only says that there is none
        for prepare, arguments in (("prepare_data", ()), ("setup", ("fit",))):
            if callable(getattr(source, prepare, None)):
                getattr(source, prepare)(*arguments)
        loader = source.train_dataloader()
        if isinstance(loader, DataLoader):
            return loader
    raise InputError(
        "loader",
        got="none" if given is None else type(given).__name__,
        expected="a torch DataLoader, or a module or data module whose train_dataloader() returns one",
        fix="Pass the loader that you train with.",
    )


def _length_of(dataset: Any) -> int | None:
    """Items of the dataset; None for a stream that does not tell."""
    try:
        return len(dataset)
    except TypeError:
        return None


def _items_of(dataset: Any) -> Any:
    if isinstance(dataset, IterableDataset):
        items = [item for _, item in zip(range(N_STREAMED), dataset, strict=False)]
    else:
        items = dataset
    if not len(items):
        raise InputError("loader", got="an empty dataset", expected="at least one item", fix="Give it data.")
    return items
