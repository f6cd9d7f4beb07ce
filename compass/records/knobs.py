"""Models, loads and batches, and the machine and settings that they run under."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from compass.records.allocators import Allocator
from compass.records.axes import AXES, FIRST_AXES, AxisValues, options_label
from compass.records.base import Pairs, Record, Scalar, digest
from compass.records.devices import device_kind
from compass.records.nouns import counted, of_batch

FIXED_SHAPE = (1, 1)
"""Layers and channels that stand for a fixed model; no model that is searched is as small."""
_WITHOUT_MEMORY = {axis.name: axis.default for axis in AXES if not axis.changes_memory}


class Variant(AxisValues):
    """Everything about a model but its depth and width: a value on every axis, and the family's options."""

    options: Pairs[Scalar] = ()
    """The family's own knobs, sorted by name; for ViSNet `heads`, `lmax`, `rbf`."""
    searched: tuple[str, ...] = ()
    """The options of which the space has several values, sorted; only these are shown with the variant's name."""

    def option(self, name: str) -> Scalar:
        """The family knob `name`. Raises KeyError if the family has none of that name."""
        return dict(self.options)[name]

    @property
    def searched_options(self) -> Pairs[Scalar]:
        """(option, value) of the options that are searched."""
        return tuple((name, value) for name, value in self.options if name in self.searched)

    @property
    def choices(self) -> dict[str, Scalar]:
        """The value on each axis and of each option that is searched, by name."""
        return {**self.axis_values, **dict(self.searched_options)}

    @property
    def label(self) -> str:
        """The name of the axes' values, and the options that are searched, e.g. `bf16+rank=8`."""
        return super().label + options_label(self.searched_options)

    @property
    def time_key(self) -> tuple[Hashable, ...]:
        """Each combination of options has a time model of its own, as precision has."""
        return (*super().time_key, self.options)

    @property
    def of_memory(self) -> Variant:
        """The variant whose memory law serves this one: axes that leave memory alone are at their default."""
        return self.model_copy(update=_WITHOUT_MEMORY) if _WITHOUT_MEMORY else self

    def __str__(self) -> str:
        return self.label

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """The fields that digests are made of; see `FIRST_AXES`."""
        later = {axis.name: axis.default for axis in AXES if axis.name not in FIRST_AXES}
        return [
            (name, value)
            for name, value in super().__repr_args__()
            if name != "searched" and (name not in later or value != later[name])
        ]


def shape_name(layers: int, channels: int) -> str:
    """Depth and width in short, e.g. `5 × 96`; a fixed model has neither."""
    return "as it is" if (layers, channels) == FIXED_SHAPE else f"{layers} × {channels}"


def shape_header(models: Iterable[Knobs]) -> str:
    """The header of a column of shapes: `model` if all are fixed models."""
    return "model" if all(knobs.is_fixed for knobs in models) else "layers × channels"


class Knobs(Record):
    """One configuration of a model family: depth, width and the variant. A fixed model has one layer of one channel."""

    layers: int = Field(ge=1)
    """Depth: the repeated layers."""
    channels: int = Field(ge=1)
    """Width: the features of a node in every layer."""
    variant: Variant = Variant()

    def covers(self, other: Knobs) -> bool:
        """Whether this is at least as large as `other` in both layers and channels."""
        return self.layers >= other.layers and self.channels >= other.channels

    @classmethod
    def fixed(cls, variant: Variant) -> Knobs:
        """Those of a fixed model, which has neither depth nor width."""
        layers, channels = FIXED_SHAPE
        return cls(layers=layers, channels=channels, variant=variant)

    @property
    def is_fixed(self) -> bool:
        """Whether these are a fixed model's."""
        return (self.layers, self.channels) == FIXED_SHAPE

    @property
    def shape(self) -> str:
        """Depth and width in short."""
        return shape_name(self.layers, self.channels)

    @property
    def in_words(self) -> str:
        """Depth and width."""
        return "the model as it is" if self.is_fixed else f"{self.layers} layers × {self.channels} channels"

    def __str__(self) -> str:
        return f"{self.in_words}, {self.variant}"


class Load(Record):
    """The size of a batch: its graphs, and its amount of each feature that the workload declares (nodes, edges, …)."""

    graphs: int = Field(ge=0)
    """Number of graphs."""
    sizes: Pairs[float]
    """(feature, amount) pairs, in the order the workload declares them."""
    padded: tuple[str, ...] = ()
    """Features of which a batch holds the largest of its members times their number, because all are padded to it."""

    @classmethod
    def total(cls, parts: Iterable[tuple[Load, int]]) -> Load:
        """The load of a batch of (load, copies) pairs, without a record for every sum on the way, which would delay a step."""
        graphs, sizes, longest = 0, dict[str, float](), dict[str, float]()
        padded: tuple[str, ...] = ()
        for one, copies in parts:
            graphs += one.graphs * copies
            padded = one.padded
            for name, size in one.sizes:
                sizes[name] = sizes.get(name, 0.0) + size * copies
                if name in padded and one.graphs:
                    longest[name] = max(longest.get(name, 0.0), size / one.graphs)
        sizes |= {name: graphs * length for name, length in longest.items()}
        return cls(graphs=graphs, sizes=tuple(sizes.items()), padded=padded)

    def __getitem__(self, feature: str) -> float:
        return dict(self.sizes)[feature]

    def __add__(self, other: Load) -> Load:
        return Load.total(((self, 1), (other, 1)))

    def __mul__(self, copies: int) -> Load:
        return Load.total(((self, copies),))

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """The fields that digests are made of: where nothing is padded, those of Compass 0.1.0."""
        return [(name, value) for name, value in super().__repr_args__() if name != "padded" or value]

    def in_words(self, noun: str = "") -> str:
        """The size of the batch, e.g. `2 graphs, 480 nodes`; `noun` is the workload's. A size that counts the same is left out."""
        members = of_batch(noun)
        sizes = [f"{size:,.0f} {name}" for name, size in self.sizes if (name, size) != (members, self.graphs)]
        return ", ".join([counted(self.graphs, members), *sizes])

    def __str__(self) -> str:
        return self.in_words()


class Batch(Record):
    """The input of one training step: named samples with their copies, or a synthetic batch of a given load."""

    members: tuple[tuple[str, int], ...] = ()
    """(sample id, copies) pairs."""
    synthetic: Load | None = None

    def load(self, samples: Mapping[str, Load]) -> Load:
        """The given load of a synthetic batch, else the sum over its members; `samples` has the load of one copy of each."""
        if self.synthetic is not None:
            return self.synthetic
        return Load.total((samples[name], copies) for name, copies in self.members)


Waiting = Literal["sleep", "spin"]


class RuntimeSettings(Record):
    """Settings that are fixed before a worker starts, because they change every measurement after it."""

    threads: int = Field(ge=1)
    """Threads that compute one step together."""
    allocator: Allocator = "fast"
    """The C allocator, by its name in `compass env`."""
    waiting: Waiting = "sleep"
    """Whether OpenMP's threads sleep between two parallel regions, or spin first for the library's default time."""
    library: str = ""
    """The file that the allocator is preloaded from, whose name tells its version; empty: it needs none."""

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """The fields that digests are made of: without a library, those of Compass 0.1.0."""
        return [(name, value) for name, value in super().__repr_args__() if name != "library" or value]


class Hardware(Record):
    """The device, and the memory that may be used on it."""

    kind: str
    """A name in `compass.records.devices`: `cuda`, `xpu`, `mps` or `cpu`."""
    index: int = 0
    """The device's place among several of its kind."""
    name: str
    """As the vendor calls it."""
    driver: str
    """Version of the driver, or the operating system of a CPU."""
    total_bytes: int
    """Memory of the device."""
    free_bytes: int
    """Free at the time of measurement."""
    others_bytes: int
    """Held by other processes at the time of measurement."""
    limit_bytes: int | None = None
    """A limit from outside: the control group's, or the user's `--memory-limit`."""
    budget_bytes: int
    """The budget: bytes that a training process may hold in all, after every limit."""
    expandable_segments: bool = False
    """Whether an accelerator's allocator grows its segments in place, so that batches of many sizes waste little."""

    @property
    def device(self) -> str:
        """The device's name in torch and on the command line: `cuda:1`, `cpu`."""
        return f"{self.kind}:{self.index}" if device_kind(self.kind).has_index else self.kind

    @property
    def on_host(self) -> bool:
        """Whether training runs on the CPU and in its memory, and no accelerator is involved."""
        return device_kind(self.kind).memory == "host"


class Fingerprint(Record):
    """Everything that a measurement depends on. Measurements under another fingerprint are not used."""

    device: str
    """Name of the device."""
    driver: str
    """Version of its driver."""
    torch: str
    """Version of PyTorch."""
    versions: Pairs[str]
    """Versions of other packages, by name."""
    workload: str
    """Digest of the workload's name, options, code version and samples."""
    runtime: Pairs[str] = ()
    """The runtime settings in force in the worker: threads, waiting policy, allocators."""

    @property
    def key(self) -> str:
        """Sixteen hex digits that stand for the whole fingerprint."""
        return digest(self)
