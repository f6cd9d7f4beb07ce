"""All settings of Compass, each with its unit and the reason for its default.

`compass config` writes an editable copy; `--config FILE` reads one back, `--set dotted.key=value` changes one value. The
classes are frozen and refuse unknown keys. Defaults are written here and nowhere else.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from compass.errors import InputError
from compass.records import ALLOCATORS, Allocator, Matmul, Precision, Scalar, Stage, Waiting
from compass.units import parse_bytes, parse_seconds

Share = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]


def _in_units(parse: Callable[..., float]) -> BeforeValidator:
    """Accepts a text with a unit in place of a number."""

    def read(given: Any) -> Any:
        if not isinstance(given, str):
            return given
        try:
            return parse(given, where="")
        except InputError as error:
            raise PydanticCustomError("unit", "{expected}", {"expected": error.expected}) from None

    return BeforeValidator(read)


Seconds = Annotated[float, Field(gt=0), _in_units(parse_seconds)]
"""A number of seconds, or a time such as `20min`."""
Bytes = Annotated[int, Field(ge=1), _in_units(parse_bytes)]
"""A number of bytes, or a size such as `80MiB`."""
Range = tuple[PositiveInt, PositiveInt]
"""(lowest, highest), both included."""
InterpolationTable = tuple[tuple[PositiveFloat, PositiveFloat], ...]
"""(x, y) points with rising x, interpolated between and clamped outside."""
Shapes = tuple[tuple[PositiveInt, PositiveInt], ...]
"""(layers, channels) of models."""
SomeShapes = Annotated[Shapes, Field(min_length=1)]
Allocators = Annotated[
    tuple[Allocator, ...],
    BeforeValidator(lambda given: (given,) if isinstance(given, str) else given),
    Field(min_length=1),
]
"""One allocator by its name, or several."""
Loggers = Annotated[
    tuple[Literal["tensorboard", "csv", "wandb", "mlflow"], ...],
    BeforeValidator(lambda given: tuple(given.split(",")) if isinstance(given, str) else given),
]
"""Loggers by their names, which commas may separate."""

log = logging.getLogger(__name__)


class Settings(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    old_names: ClassVar[Mapping[str, str]] = {}
    """Former names of this group's settings: old → present. They are accepted, with a warning, until the next release."""

    @classmethod
    def group(cls, name: str) -> type[Settings] | None:
        """The class of the group of settings in field `name`; None for a plain setting or an unknown name."""
        kind = cls.model_fields[name].annotation if name in cls.model_fields else None
        return kind if isinstance(kind, type) and issubclass(kind, Settings) else None

    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not given.keys() & cls.old_names.keys():
            return given
        return present_names(given, warn_of_old_name, kind=cls)


def warn_of_old_name(old: str, new: str) -> None:
    """Log that a setting was given by its former name."""
    log.warning("the setting %s is now called %s; the next release will refuse the old name", old, new)


# ------------------------------------------------------------------------------------------- structures and graphs


class TestBench(Settings):
    """The complex that stands for the data when no dataset is given."""

    __test__ = False  # not a test class, whatever its name says to pytest

    name: str = "1ia1"
    """Name shown in logs and in the profile. 1ia1 is the embedded complex."""
    protein: str = ""
    """Path of a PDB or mmCIF file, plain or gzipped. If this and `ligand` are empty, the embedded complex is used."""
    ligand: str = ""
    """Path of an SDF or MOL2 file, plain or gzipped. If this and `protein` are empty, the embedded complex is used."""
    pocket_radius: PositiveFloat | None = 8.0
    """Protein atoms within this distance (Å) of any heavy ligand atom are kept, atom by atom; None keeps the whole protein.
    8 Å holds the first two shells of residues, the input of most published affinity models."""
    max_atoms: PositiveInt = 25_000
    """A complex with more atoms is refused. The largest whole protein among the bundled examples has 20,912."""
    binding_data: str = "Ki=1.4nM"
    """The affinity, in the notation of the PDBbind index. That of the embedded complex is a regression target of plausible
    size, not a checked measurement: memory and time do not depend on it."""


class StructureRules(Settings):
    """Treatment of the irregular parts of a structure file."""

    hydrogens: Literal["drop", "keep"] = "drop"
    """Most crystal structures lack hydrogens; dropping them makes all inputs alike. Deuterium counts as hydrogen."""
    waters: Literal["drop", "keep"] = "drop"
    """Structures differ in how many ordered waters were deposited. A residue of one oxygen counts as water, whatever its
    name."""
    metals: Literal["keep", "drop"] = "keep"
    """Single metal ions: catalytic and structural metals bind ligands. The iron of a haem belongs to its cofactor."""
    cofactors: Literal["keep", "drop"] = "keep"
    """Other residues outside the chains (haem, NADPH, sugars, chloride …): they shape the pocket."""
    alternates: Literal["highest_occupancy", "first", "all"] = "highest_occupancy"
    """The alternate location of a residue to keep; a tie goes to the alphabetically first label. One label is chosen for
    the whole residue, because a choice for each atom could mix two conformers of a side chain."""
    models: Literal["first", "all"] = "first"
    """NMR entries hold many models of one structure; one model is enough."""
    unknown_elements: Literal["refuse", "drop", "as_carbon"] = "refuse"
    """An unknown element is a sign of a damaged file."""


class GraphRules(Settings):
    """Construction of a graph from atoms."""

    cutoff: PositiveFloat = 5.0
    """Length of the longest edge (Å). 5 Å is ViSNet's published cutoff."""
    max_neighbours: PositiveInt = 32
    """Neighbours of an atom, nearest first, its edge to itself not counted. 32 is ViSNet's published cap."""


# ---------------------------------------------------------------------------------------------------------- stages


class StageRules(Settings):
    """A stage's time limits, the weight of quality in its score, and the model variants that it searches."""

    target_s: Seconds | None
    """Target for the time of a cycle (s); None: no limit."""
    window_s: Annotated[float, Field(ge=0), _in_units(parse_seconds)] = 0.0
    """Time beyond the target (s) that is still admissible, at a declining score."""
    quality_weight: Share = 0.0
    """q of the score: 0 counts throughput alone, 1 counts parameters alone."""
    precision: Annotated[tuple[Precision, ...], Field(min_length=1)] = ("fp32",)
    """Precisions to choose from. One is the rule, because precision changes quality in a way that the score does not see."""
    checkpointing: Annotated[tuple[bool, ...], Field(min_length=1)] = (False, True)
    """Activation checkpointing trades time for memory and leaves quality unchanged, so both values are searched."""
    fused: tuple[bool, ...] = ()
    """Whether one kernel updates all weights, which computes the same. Empty: the faster of both, as measured. On two cores, 0.8
    million weights in 180 tensors took 1.2 ms in place of 6.3."""
    matmul: tuple[Matmul, ...] = ("full",)
    """How exactly float32 matrices are multiplied: `reduced` allows TF32 on NVIDIA and bf16 kernels on CPUs that have them.
    Weights and activations stay float32. One is the rule, because it changes numerics in a way that the score does not see."""
    compiled: tuple[bool, ...] = (False,)
    """Whether `torch.compile` compiles the model's layers. One is the rule, because the trial alone takes minutes: on two cores,
    ViSNet's layers compiled for 100 s and then gained 7 %. With both values allowed, a trial decides."""
    allocator: Allocators = tuple(name for name, kind in ALLOCATORS.items() if name != "system" and not kind.grows)
    """C allocators to choose from on a CPU; those that are not installed are left out. `fast` keeps freed memory and `tight`
    returns it: a step takes a third of the time, and up to half as much memory again. What each costs is measured."""


class UntimedRules(StageRules):
    """A stage without a time limit."""

    target_s: None = None
    """Always None: this stage has no time limit."""


class Stages(Settings):
    """The four stages of development."""

    smoke_test: UntimedRules = UntimedRules(checkpointing=(False,))
    prototyping: StageRules = StageRules(target_s=20 * 60, window_s=20 * 60, quality_weight=0.2)
    """Time decides: q = 0.2 leads to about a tenth of the reference model's parameters."""
    validation: StageRules = StageRules(target_s=90 * 60, window_s=20 * 60, quality_weight=0.3)
    """Balance of time and quality: q = 0.3 leads to about half of the reference model's parameters."""
    production: UntimedRules = UntimedRules(quality_weight=1.0)
    """Quality decides: the largest model, then the fastest way to train it."""

    @property
    def calibration_allocator(self) -> Allocator:
        """The allocator of the calibration, to which the times under all others are relative."""
        allowed = self.prototyping.allocator
        return "fast" if "fast" in allowed else allowed[0]

    def __getitem__(self, stage: Stage) -> StageRules:
        rules: StageRules = getattr(self, stage)
        return rules


class ScoreRules(Settings):
    """The score: a scaling law of two terms. Lower is better; the reference model of the production stage scores 1."""

    alpha: PositiveFloat = 0.26
    """Exponent of the parameters, from Frey et al., Nature Machine Intelligence 2023, for equivariant graph networks."""
    beta: PositiveFloat = 0.26
    """Exponent of throughput: the same law in the number of samples seen."""
    late_worth: Share = 0.5
    """Weight of a sample at the end of the window. The weight falls linearly from 1 at the target."""
    tie_share: Share = 0.01
    """Scores within this share of the best are equal in practice: then the preference of the stage decides."""


# ----------------------------------------------------------------------------------------------------------- space


MOST_COMBINATIONS = 12
"""Of listed options: each is calibrated by itself, which on two cores takes up to a minute."""


class SpaceRules(Settings):
    """The search space: the models that a stage may choose from."""

    layers: Range = (2, 12)
    """Fewest and most layers; see `scaled`."""
    channels: Range = (16, 512)
    """Fewest and most channels; see `scaled`."""
    channel_step: PositiveInt = 16
    """Step between two widths. Multiples of 16 are faster; a step of 8 would gain 0.03 % of the score."""
    channels_per_layer: tuple[PositiveFloat, PositiveFloat] = (12.0, 32.0)
    """Lowest and highest ratio of channels to layers. Published ViSNets have 128/6 and 256/9. Without this limit, one wide
    layer would have the most parameters."""
    vram_factors: InterpolationTable = ((2.0, 0.75), (8.0, 0.85), (16.0, 1.0), (24.0, 1.15), (40.0, 1.35), (80.0, 1.6))
    """(GiB of memory, factor on the upper ends of the `scaled` ranges); 1.0 at 16 GiB."""
    scaled: tuple[Literal["layers", "channels"], ...] | None = None
    """Ranges whose upper end follows the memory; None: those at their default. A range that you, or a workload of your own, give is
    kept as it is written."""
    small_share: tuple[Share, Share] = (0.03, 0.30)
    """Size of the prototyping stage's models, as a share of the reference model's parameters."""
    large_share: tuple[Share, Share] = (0.30, 0.80)
    """Size of the validation stage's models, as a share of the reference model's parameters."""
    reference_share: Share = 0.02
    """The production stage takes the fastest of the models whose parameters are within this share of the largest."""
    options: dict[str, Scalar | Annotated[tuple[Scalar, ...], Field(min_length=1)]] = {"heads": 8, "lmax": 1, "rbf": 32}
    """Other knobs of the model family; these are ViSNet's defaults in PyG. A single value is fixed, because these knobs change
    quality in a way that the score does not see. Of a list, every value is searched; the first is taken where speed and size
    hardly depend on it."""
    data_cap: InterpolationTable = ((1_000, 250_000), (10_000, 750_000), (25_000, 1_000_000), (100_000, 2_000_000))
    """(complexes, most trainable parameters), interpolated log–log and clamped at both ends: a model with more parameters
    memorises the data. Empty: no limit."""

    def share(self, stage: Stage) -> tuple[float, float] | None:
        """The part of the reference's capacity that `stage` searches; None: all of it."""
        return {"prototyping": self.small_share, "validation": self.large_share}.get(stage)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("layers", "channels", "channels_per_layer", "small_share", "large_share"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the lowest value {low} is above the highest {high}")
        for name, values in self.options.items():
            if isinstance(values, tuple) and len(set(map(repr, values))) < len(values):
                raise ValueError(f"options.{name}: a value is listed twice")
        if (n := math.prod(len(one) for one in self.options.values() if isinstance(one, tuple))) > MOST_COMBINATIONS:
            raise ValueError(
                f"options: the lists have {n} combinations; each is probed by itself, and at most {MOST_COMBINATIONS} can be"
            )
        for name in ("vram_factors", "data_cap"):
            xs = [x for x, _ in getattr(self, name)]
            if xs != sorted(set(xs)) or not (xs or name == "data_cap"):
                raise ValueError(f"{name}: needs at least one point, with rising first values")
        return self


class BatchRules(Settings):
    """Limits of the batch size."""

    min_batch: PositiveInt = 2
    """Least graphs per batch. A smaller batch, whose statistics mean little, is used only if no other is admissible."""
    max_batch: PositiveInt = 4096
    """Most graphs per batch. Published graph networks gain nothing from larger ones."""
    training_share: Share = 0.05
    """A batch is at most this share of the training set, because fewer than twenty updates per epoch learn slowly."""
    effective_batch: PositiveInt = 64
    """Graphs per weight update. Gradients of smaller batches are accumulated up to this number."""

    def cap(self, dataset_size: int) -> int:
        """The largest batch for `dataset_size` complexes."""
        return max(1, min(self.max_batch, int(dataset_size * self.training_share)))


class DatasetRules(Settings):
    """The complexes to train on, and the treatment of those that are much larger than the rest."""

    default_size: PositiveInt = 19_000
    """Number of complexes assumed if none is given: the size of the PDBbind general set."""
    path: str = ""
    """A PDBbind-style folder, or a CSV or Parquet manifest. Empty: the test bench's complex stands for the data."""
    index: str = ""
    """The PDBbind index file. Empty: searched for in the folder."""
    protein_suffixes: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "protein",
        "protein_processed",
        "protein_fixed",
        "protein_prepared",
        "protein_clean",
        "protein_nowater",
        "protein_obabel_reduce",
        "protein_hs",
        "receptor",
        "receptor_fixed",
        "rec",
        "apo",
        "target",
    )
    """Words that end the names of protein files, best first: `1abc_protein.pdb`, or `receptor.pdb` in the folder `1abc`."""
    pocket_suffixes: tuple[str, ...] = ("pocket",)
    """The same for files of the residues near the ligand, which stand in for a missing protein file."""
    ligand_suffixes: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "ligand",
        "ligand_fixed",
        "ligand_processed",
        "ligand_crystal",
        "crystal_ligand",
        "lig",
    )
    """The same for ligand files."""
    catalogue: str = ""
    """The file that a scan of `path` wrote. The scan fills this in."""
    pocket_radius: PositiveFloat | None = 8.0
    """Protein atoms within this distance (Å) of any heavy ligand atom are kept; None keeps the whole protein."""
    max_atoms: PositiveInt = 25_000
    """A complex with more atoms is rejected."""
    oversize_share: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """Share of the complexes, the largest ones, that are treated apart. Sizes have long tails: one outlier in a batch would
    take the memory that a larger model could use."""
    oversize: Literal["isolate", "crop", "refuse"] = "isolate"
    """Treatment of the largest complexes: each batched alone, cropped to a smaller pocket, or left out and named."""


# ----------------------------------------------------------------------------------------------------- measurement


class RuntimeRules(Settings):
    """Settings that are fixed before the first measurement."""

    threads: PositiveInt | None = None
    """Compute threads; None: the cores that this process may use, or half of them if a CPU is faster with half, as with
    hyperthreads."""
    waiting: Waiting | None = None
    """Whether threads that wait for each other sleep or spin; None: the faster one, as measured. On two idle cores,
    spinning saved a third of a short step and halved its scatter. Beside one busy process, steps took two to nine times as
    long."""
    trial_gain: Share = 0.03
    """Fewer threads must save this share of a step, because two timings of one setting differ by as much."""
    idle_cores: PositiveFloat = 0.1
    """Threads spin without a comparison with sleeping if other processes keep fewer cores busy than this, as a desktop in
    the background does. A step that waits for a busy core takes several times as long."""
    spin_gain: Share = 0.05
    """Spinning must save this share of the mean step. On idle cores it saves an eighth to a half (SchNet: nothing); beside
    other processes a step takes two to twenty times as long."""
    loader_share: Share = 0.02
    """Loading processes are used if making a batch ready takes more than this share of a step. A smaller gain is lost in
    the noise, and on a CPU each loading process takes a core from training."""
    loader_headroom: PositiveFloat = 1.5
    """Loading processes must be able to make this many times the batches that training needs, because a batch may be larger
    than the mean, or its files may not be in the system's cache."""


class MemoryRules(Settings):
    """The memory budget, and the margins of memory predictions."""

    old_names: ClassVar[Mapping[str, str]] = {
        "footprint_ratio_recomputing": "footprint_ratio_checkpointing",
        "footprint_ratio_accelerator_recomputing": "footprint_ratio_accelerator_checkpointing",
    }

    reserve_share: Share = 0.05
    """Share of the free memory left to the system without a memory limit, because other programs grow too."""
    live_margin: Share = 0.01
    """Least margin over predicted live bytes. On held-out configurations the predictions were off by at most 0.4 %. The
    margin also covers what a training loop holds beside the step: metrics, and the copy of the next batch."""
    footprint_ratio_tight: PositiveFloat = 1.01
    """Upper value of (footprint − baseline) / live bytes under the `tight` allocator. Measured with glibc 2.36 at 450 MB to
    1.8 GB of live bytes: at most 1.003."""
    footprint_ratio_fast: PositiveFloat = 1.55
    """The same under `fast` and `system`. Measured: at most 1.38 over seven models, and 1.50 with 3 layers of 96 channels,
    due to fragmentation. A larger ratio in a probe raises it."""
    footprint_ratio_checkpointing: PositiveFloat = 4.3
    """The same under `fast` with activation checkpointing. Measured: 3.9 with 7 layers of 128 channels, because the heap
    does not return freed memory."""
    footprint_ratio_joined: PositiveFloat = 1.12
    """The same under `tcmalloc`, which joins freed pieces. Measured over three models: at most 1.03, and 1.05 over batches of
    many sizes."""
    footprint_ratio_joined_checkpointing: PositiveFloat = 1.4
    """The same with activation checkpointing."""
    footprint_ratio_accelerator: PositiveFloat = 1.25
    """Reserved / allocated bytes of an accelerator's caching allocator with fixed segments, until a probe has measured it."""
    footprint_ratio_accelerator_checkpointing: PositiveFloat = 1.7
    """The same with activation checkpointing, which has short-lived blocks of many sizes. In simulation: up to 1.66 in
    bf16."""
    footprint_constant_bytes: Bytes = 80 * 1024**2
    """Memory that a training process on a CPU holds for any model: kernels, thread stacks, arenas. Measured: 28–36 MB in
    certificates, and up to 66 MB after hundreds of small batches of many sizes."""
    idle_headroom_bytes: Bytes = 64 * 1024**2
    """A memory limit must leave at least this much above an idle worker, or no model fits."""


class ProbeRules(Settings):
    """The probes: which models and batches they measure, for how long and how often."""

    old_names: ClassVar[Mapping[str, str]] = {
        "anchor_recomputing": "anchor_checkpointing",
        "anchor_recomputing_cpu": "anchor_checkpointing_cpu",
        "confirm_rounds": "certify_rounds",
        "confirm_again": "certify_again",
    }

    micro_loads: Annotated[tuple[tuple[PositiveInt, PositiveInt], ...], Field(min_length=1)] = (
        (100, 8),
        (300, 8),
        (300, 32),
    )
    """(atoms, neighbours) of the calibration's synthetic graphs. Three pairs determine a plane in atoms and edges."""
    micro_architectures: SomeShapes = ((3, 16), (3, 64), (6, 16), (6, 64))
    """(layers, channels) probed at every load. Three layers or more: with two, the fit was off by 2–6 %."""
    extra_architectures: Shapes = ((4, 96), (5, 128))
    """(layers, channels) probed at the first load, to fit the term in channels²."""
    more_architectures: Shapes = ((4, 32), (7, 48), (3, 128))
    """(layers, channels) also probed at every load, if the memory law predicts held-out probes poorly."""
    poor_fit: Share = 0.015
    """The memory law is poor if a held-out probe differs from its prediction by more than this share."""
    anchor_architectures: SomeShapes = ((2, 32), (3, 96), (5, 192))
    """(layers, channels) of the anchors: models timed on several copies of the sample, because synthetic graphs do not keep
    a GPU busy. Without one wider than 96 channels, models with 200 were predicted 20 % too fast on an H200. The shallowest,
    the deepest and one of every variant are also timed at batch 1, to estimate launch overhead."""
    anchor_checkpointing: Shapes = ((5, 192),)
    """The same with activation checkpointing. One model is enough, because times differ by a factor."""
    anchor_architectures_cpu: SomeShapes = ((3, 48), (8, 96), (4, 192))
    """The anchors on a CPU: small, deep and wide. Synthetic graphs inform the time model, but lack the sample's memory
    locality. Without one wider than 96 channels, models with 176 were predicted 15 % too fast."""
    anchor_checkpointing_cpu: Shapes = ((3, 48), (4, 192))
    """The same with activation checkpointing: small and wide. With a deep one in place of the wide, models with 160
    channels were predicted 6 to 12 % too fast. The effect of depth is known from models without checkpointing."""
    anchor_share: Share = 0.25
    """Share of the memory budget that an anchor may fill: enough to keep a GPU busy, and safe before the ratio of footprint
    to live bytes has been measured."""
    anchor_step_s: Seconds = 1.0
    """Longest predicted step of an anchor (s)."""
    anchor_step_s_cpu: Annotated[tuple[Seconds, ...], Field(min_length=1)] = (0.15, 0.5, 0.3)
    """The same on a CPU, one value per pass over the anchors. Step times there drift by some per cent within a minute and
    grow a little faster than the load, so each anchor is timed at several loads. The first pass uses the sample with the
    least usual proportion of features, because copies of one sample cannot separate the cost of each feature. The last pass
    guards against a single wrong timing: 144 ms were once timed as 216 ms. Without the last pass and the small anchor with
    checkpointing, half of the models never timed were off by 4.7 % and a twentieth by 13 %; with them by 3.2 % and 9 %."""
    fixed_share: Share = 0.4
    """`anchor_share` of a fixed model: its batches are all that is asked for, so it is also probed at a large one."""
    fixed_step_s_cpu: Annotated[tuple[Seconds, ...], Field(min_length=1)] = (0.15, 0.5, 2.0)
    """`anchor_step_s_cpu` of a fixed model. One model is soon probed, and ResNet-18's largest batches, of 300 images, were planned
    from 15."""
    anchor_steps: Range = (4, 7)
    """Fewest and most steps of an anchor, including two warm-up steps. It ends when the steps agree within
    `anchor_settle_share`, so that one outlier is not taken for the step time."""
    anchor_steps_cpu: Range = (5, 8)
    """The same on a CPU, where step times scatter more."""
    anchor_settle_share: Share = 0.05
    """Enough for a choice: 5 % of throughput is 0.3–0.5 % of the score."""
    micro_steps: PositiveInt = 2
    """Steps of a micro-probe on a CPU before the profiled one; optimizer state exists from the second step on. On an
    accelerator it makes one step, because such small steps show only launch overhead and only memory is measured."""
    micro_timeout_s: Seconds = 60.0
    """A micro-probe takes some tens of milliseconds; one that takes a minute hangs."""
    compile_timeout_s: Seconds = 600.0
    """Time (s) that a probe may take in addition if its model is compiled. Two cores took up to 130 s."""
    settle_share: Share = 0.03
    """A certificate's step time is settled when half of its interval is under this share of the median."""
    patience_s: Seconds = 20.0
    """Time (s) that a certificate may spend beyond its fixed batches, until its step time has settled."""
    smoke_steps: PositiveInt = 20
    """Steps of the smoke test: half a second on the smallest model. With four steps, its cycle was off by a tenth."""
    timed_steps: PositiveInt = 5
    """Fewest timed steps on a batch of mean load, after the worst batches have shown that memory suffices."""
    timed_s: Seconds = 6.0
    """Short steps are timed for this long (s): a cycle takes their mean, which needs more steps than the median. On a
    virtual machine, five seconds differ by 2.7 % from the minute around them, and that minute by 3 % from the hour."""
    timed_most: PositiveInt = 80
    """Most steps timed for that."""
    shuffled_batches: PositiveInt = 5
    """Shuffled batches between the two worst batches of a certificate. One batch is not enough, because memory depends on
    the order of the batches."""
    shuffled_s: Seconds = 60.0
    """Most time (s) for the shuffled batches, of which at least one is run. A step of a large model on a CPU takes minutes.
    """
    timeout_factor: PositiveFloat = 10.0
    """A probe is killed when it takes this many times its predicted time."""
    timeout_floor_s: Seconds = 120.0
    """Least time (s) before a probe is killed, because start-up is slow on a busy machine."""
    certify_rounds: PositiveInt = 3
    """Most certificates of a stage. Each may correct the stage's choice by its measurements."""
    certify_again: Annotated[int, Field(ge=0)] = 2
    """Most repetitions of a certificate whose steps are clearly slower than predicted. Other processes make steps slower,
    never faster: steps of 77 ms were once certified at 98 ms."""
    worthwhile_gain: Share = 0.05
    """Production certifies another way to train its model if that is predicted to be faster by this share: predictions are no
    better, and a certificate of a large model takes a minute."""
    refill_share: Share = 0.98
    """Where memory is the limit, a larger batch is tried if the certified one is below this share of what its footprint
    allows. Below fifty graphs, one more graph is worth a certificate."""


class SplitRules(Settings):
    """Split into training, validation and test sets. Validation chooses the best checkpoint; the test set evaluates it."""

    by: Literal["random", "year", "scaffold", "lists", "clusters", "given"] = "random"
    """`year`: the newest complexes are the test set; `scaffold`: ligands of one Murcko scaffold stay together; `lists`:
    files of ids; `clusters`: proteins of one cluster stay together; `given`: the `split` column of a manifest."""
    val_share: Share = 0.1
    """Share of the complexes. Lists and the `split` column of a manifest take precedence."""
    test_share: Share = 0.1
    """Share of the complexes. Lists and the `split` column of a manifest take precedence."""
    train_list: str = ""
    """A file with one id per line; empty: all complexes that the other lists do not name."""
    val_list: str = ""
    """A file with one id per line."""
    test_list: str = ""
    """A file with one id per line."""
    clusters: str = ""
    """A file with one cluster per line, its ids separated by blanks, as in MMseqs2 and PDB sequence clusters."""


class TrainingRules(Settings):
    """Training of a planned model. None of these settings changes the memory or time of a step."""

    learning_rate: PositiveFloat = 3e-4
    """Rate at `reference_batch` graphs per update: between those that ViSNet's authors use for small and large molecules."""
    reference_batch: PositiveInt = 64
    """Graphs per update at which `learning_rate` applies."""
    batch_exponent: Share = 0.5
    """The rate grows with (graphs per update / reference_batch) to this power. The square root is the rule for Adam
    (Malladi et al., NeurIPS 2022), 1 the rule for SGD; 0 keeps the rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of AdamW."""
    clip_norm: PositiveFloat = 10.0
    """Gradients are scaled down to this norm. A larger one is mostly due to an outlier complex."""
    keep_gradients: bool = True
    """Whether gradients are zeroed for the next update; else they are dropped, and each batch is an update. Kept, a step takes the
    same memory whether an update gathers one batch or many. `compass fit` drops them unless it is given an effective batch: then a
    plan holds what a loop of one's own holds."""
    warmup_share: Share = 0.05
    """Share of the updates over which the rate rises from zero, while Adam estimates its second moment."""
    final_share: Share = 0.01
    """Share of the rate at the end of the cosine schedule."""
    dropout: Share | None = None
    """Probability of every dropout layer; None: as the model family builds it. ViSNet has no dropout layer."""
    epochs: PositiveInt = 100
    """Passes over the training set, unless cycles or a time are given."""
    keep_last: PositiveInt = 2
    """Checkpoints kept beside the best one. More than one, because a crash may damage the newest."""
    checkpoint_s: Seconds = 600.0
    """Seconds between two checkpoints: the most training time that a crash costs."""
    most_not_finite: PositiveInt = 20
    """A run ends when this many updates in a row had a loss or a gradient that is not finite; each of them changes no weights. One
    is an unlucky batch, as after overflow in bf16; twenty are a model that will not recover."""
    few_updates: PositiveInt = 500
    """Fewer weight updates in all are warned of. On 300 complexes, small models reached their lowest validation error after
    285 to 430 updates (docs/learning_curve.md); larger datasets need more."""
    evaluated_train: PositiveInt = 2_000
    """Most training complexes in the evaluation that ends a run, drawn with `seed`: their error is then known to some 2 %,
    while predicting 16,000 took longer than a short training. Validation and test are evaluated whole."""
    loggers: Loggers = ("tensorboard",)
    """Where the curves of a run go beside its own tables: tensorboard, csv, wandb, mlflow; empty: nowhere else. Sign in to services
    by their own environment variables."""
    split: SplitRules = SplitRules()


class VerifyRules(Settings):
    """Tolerance of `compass verify`."""

    step_tolerance: Share = 0.1
    """Share by which a step may be slower than planned, at the lower end of the median's interval. Certificates settle to 3
    %, but repeated ones differ by up to 10 % on a shared machine. Faster steps are accepted."""


class SearchRules(Settings):
    """The search strategy, and when it stops."""

    gain_share: Share = 0.003
    """The search stops when no probe is expected to improve the score by more than this share. On a dozen foreign machines, two
    thirds of this value gave the same regret and took four steps more."""
    probes_per_stage: PositiveInt = 3
    """Most timing probes per stage."""
    sampler: Literal["structured", "gp", "tpe", "random", "grid"] = "structured"
    """Search strategy of prototyping and validation: `structured` uses Compass's time model; the samplers of Optuna see
    scores only."""
    sampler_trials: PositiveInt = 12
    """Trials per stage of an Optuna sampler: four times the probes of `structured`, because the first five are random."""
    runners_up: PositiveInt = 4
    """Alternatives per stage that the profile keeps."""


class OptimizerConfig(Settings):
    """Every setting of Compass, grouped by the part that reads it."""

    test_bench: TestBench = TestBench()
    structures: StructureRules = StructureRules()
    graph: GraphRules = GraphRules()
    dataset: DatasetRules = DatasetRules()
    stages: Stages = Stages()
    score: ScoreRules = ScoreRules()
    space: SpaceRules = SpaceRules()
    batch: BatchRules = BatchRules()
    runtime: RuntimeRules = RuntimeRules()
    memory: MemoryRules = MemoryRules()
    probe: ProbeRules = ProbeRules()
    search: SearchRules = SearchRules()
    verify: VerifyRules = VerifyRules()
    training: TrainingRules = TrainingRules()
    cycle_batches: PositiveInt = 450
    """Batches per cycle."""
    seed: int = 0
    """Seed of all random choices."""


def present_names(
    given: Mapping[str, Any],
    on_rename: Callable[[str, str], None] = lambda _old, _new: None,
    *,
    kind: type[Settings] = OptimizerConfig,
) -> dict[str, Any]:
    """`given`, nested settings by name, with former names replaced by the present ones; unknown keys stay.

    Each replacement is reported to `on_rename` as (old name, present name).
    """
    renamed: dict[str, Any] = {}
    for old, value in given.items():
        name = kind.old_names.get(old, old)
        if name != old:
            on_rename(old, name)
        group = kind.group(name)
        renamed[name] = present_names(value, on_rename, kind=group) if group and isinstance(value, dict) else value
    return renamed
