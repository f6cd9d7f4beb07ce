"""Every tunable of Compass, with its unit and the reason for its default.

`compass config` writes an editable copy; `--config FILE` reads one back, `--set dotted.key=value` changes one value.
The classes are frozen and refuse unknown keys. Values here are the only place where a default is written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compass.records import Allocator, Precision, Scalar, Stage, Waiting

Share = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Range = tuple[PositiveInt, PositiveInt]
"""(lowest, highest), both included."""
InterpolationTable = tuple[tuple[PositiveFloat, PositiveFloat], ...]
"""(x, y) points with rising x, interpolated between and clamped outside."""
Shapes = tuple[tuple[PositiveInt, PositiveInt], ...]
"""(layers, channels) of models."""
SomeShapes = Annotated[Shapes, Field(min_length=1)]

log = logging.getLogger(__name__)


class Settings(BaseModel):
    """A frozen group of tunables that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    old_names: ClassVar[Mapping[str, str]] = {}
    """Former names of this group's settings: old → present. They are accepted, with a warning, until the next release."""

    @classmethod
    def group(cls, name: str) -> type[Settings] | None:
        """The class of the group of settings in field `name`; None if that is a plain setting, or unknown."""
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
    """Shown in logs and the profile. The embedded complex; the tradition's own is 1jmf."""
    protein: str = ""
    """Path of a PDB or mmCIF file, plain or gzipped. Empty, and the ligand's too: the embedded complex."""
    ligand: str = ""
    """Path of an SDF or MOL2 file, plain or gzipped. Empty, and the protein's too: the embedded complex."""
    pocket_radius: PositiveFloat | None = 8.0
    """Å around any heavy ligand atom within which protein atoms are kept, atom by atom; None keeps the whole protein.
    8 Å holds the first two shells of residues, what most published affinity models see."""
    max_atoms: PositiveInt = 25_000
    """A complex with more atoms is refused: the largest whole protein among the bundled examples has 20,912."""
    binding_data: str = "Ki=1.4nM"
    """The measured affinity, as the PDBbind index writes it. For the embedded complex it is only a regression target of
    a plausible size, not a verified measurement: memory and time do not depend on it."""


class StructureRules(Settings):
    """What becomes of the irregular parts of a structure file."""

    hydrogens: Literal["drop", "keep"] = "drop"
    """Crystal structures mostly lack them; dropping makes all inputs alike. Deuterium counts as hydrogen."""
    waters: Literal["drop", "keep"] = "drop"
    """Ordered waters are deposited unevenly between structures. A residue of one oxygen is a water by any name."""
    metals: Literal["keep", "drop"] = "keep"
    """Catalytic and structural metals bind ligands. Single ions; a haem's iron belongs to its cofactor."""
    cofactors: Literal["keep", "drop"] = "keep"
    """Other residues outside the chains (haem, NADPH, sugars, chloride …) shape the pocket."""
    alternates: Literal["highest_occupancy", "first", "all"] = "highest_occupancy"
    """Which alternate location of a residue to take; a tie goes to the first label in the alphabet. One label for the
    whole residue: atom by atom, a side chain could come out half of one conformer, half of the other."""
    models: Literal["first", "all"] = "first"
    """NMR entries hold many models; one is one structure."""
    unknown_elements: Literal["refuse", "drop", "as_carbon"] = "refuse"
    """An element that cannot be read is a sign of a damaged file."""


class GraphRules(Settings):
    """How atoms become a graph."""

    cutoff: PositiveFloat = 5.0
    """Å. ViSNet's published cutoff."""
    max_neighbours: PositiveInt = 32
    """Nearest first, the atom's edge to itself not counted. ViSNet's published cap."""


# ---------------------------------------------------------------------------------------------------------- stages


class StageRules(Settings):
    """One stage's target, how far it bends, and how much quality counts."""

    target_s: PositiveFloat | None
    """Seconds a cycle should take; None: no limit."""
    window_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds beyond the target that are still admissible, at a falling worth."""
    quality_weight: Share = 0.0
    """q of the score: 0 is throughput alone, 1 is capacity alone."""
    precision: Annotated[tuple[Precision, ...], Field(min_length=1)] = ("fp32",)
    """What to choose from. Precision changes quality in a way that parameters do not show, so one value is the rule."""
    checkpointing: Annotated[tuple[bool, ...], Field(min_length=1)] = (False, True)
    """Recomputing activations trades time for memory and leaves quality alone, so it is searched."""
    allocator: Allocator = "fast"
    """The C allocator's settings on a CPU. `fast` is 1.5 to 2.5 times faster, `tight` keeps the footprint within a few per
    cent of live bytes, so that more of the budget can be promised."""


class UntimedRules(StageRules):
    """A stage that no clock judges."""

    target_s: None = None
    """There is none: a limit would be ignored."""


class Stages(Settings):
    """The four stages of development."""

    smoke_test: UntimedRules = UntimedRules(checkpointing=(False,))
    prototyping: StageRules = StageRules(target_s=20 * 60, window_s=20 * 60, quality_weight=0.2)
    """Time is the ruler: q = 0.2 lands near a tenth of the reference's capacity."""
    validation: StageRules = StageRules(target_s=90 * 60, window_s=20 * 60, quality_weight=0.3)
    """Balance: q = 0.3 lands near half of the reference's capacity."""
    production: UntimedRules = UntimedRules(quality_weight=1.0, allocator="tight")
    """Quality: memory binds, so the allocator that wastes least of it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.validation.allocator != self.prototyping.allocator:
            given = "validation" if "validation" in self.model_fields_set else "prototyping"
            raise ValueError(
                f"{given}.allocator: times of prototyping and validation are compared under one allocator, theirs differ"
            )
        return self

    def __getitem__(self, stage: Stage) -> StageRules:
        rules: StageRules = getattr(self, stage)
        return rules


class ScoreRules(Settings):
    """The score, a two-term scaling law (lower is better; the production reference scores 1)."""

    alpha: PositiveFloat = 0.26
    """Exponent of capacity: Frey et al., Nature Machine Intelligence 2023, equivariant graph networks."""
    beta: PositiveFloat = 0.26
    """Exponent of throughput: the same law in samples seen."""
    late_worth: Share = 0.5
    """What a sample is worth at the end of the window; falls linearly from 1 at the target."""
    tie_share: Share = 0.01
    """Scores this close are equal in practice: the stage's own preference decides, never chance."""


# ----------------------------------------------------------------------------------------------------------- space


class SpaceRules(Settings):
    """Which models exist."""

    layers: Range = (2, 12)
    """Depth at a VRAM factor of 1."""
    channels: Range = (16, 512)
    """Width at a VRAM factor of 1."""
    channel_step: PositiveInt = 16
    """Tile-aligned widths are faster; a step of 8 buys 0.03 % of the score."""
    channels_per_layer: tuple[PositiveFloat, PositiveFloat] = (12.0, 32.0)
    """Width and depth grow together. Published ViSNets: 128/6 and 256/9; parameters alone favour one wide layer."""
    vram_factors: InterpolationTable = ((2.0, 0.75), (8.0, 0.85), (16.0, 1.0), (24.0, 1.15), (40.0, 1.35), (80.0, 1.6))
    """(GiB of memory, factor on the upper end of layers and channels); 1.0 at 16 GiB."""
    small_share: tuple[Share, Share] = (0.03, 0.30)
    """Prototyping's share of the reference's capacity."""
    large_share: tuple[Share, Share] = (0.30, 0.80)
    """Validation's share of the reference's capacity."""
    reference_share: Share = 0.02
    """Production takes the fastest among the models within this share of the largest capacity."""
    options: dict[str, Scalar] = {"heads": 8, "lmax": 1, "rbf": 32}
    """The family's other knobs; these are ViSNet's defaults in PyG. They change quality in a way that parameters do
    not show, so they are given and not searched."""
    data_cap: InterpolationTable = ((1_000, 250_000), (10_000, 750_000), (25_000, 1_000_000), (100_000, 2_000_000))
    """(complexes, trainable parameters), interpolated log–log and clamped: more parameters than data feed only
    memorise."""

    def share(self, stage: Stage) -> tuple[float, float] | None:
        """The part of the reference's capacity that `stage` searches; None: all of it."""
        return {"prototyping": self.small_share, "validation": self.large_share}.get(stage)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("layers", "channels", "channels_per_layer", "small_share", "large_share"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the lowest value {low} is above the highest {high}")
        for name in ("vram_factors", "data_cap"):
            xs = [x for x, _ in getattr(self, name)]
            if not xs or xs != sorted(set(xs)):
                raise ValueError(f"{name}: needs at least one point, with rising first values")
        return self


class BatchRules(Settings):
    """How large a batch may be."""

    min_batch: PositiveInt = 2
    """Below two, batch statistics and a median gradient mean little; used only if nothing else is admissible."""
    max_batch: PositiveInt = 4096
    """Beyond this, published graph networks gain nothing from a larger batch."""
    training_share: Share = 0.05
    """A batch is at most this share of the training set: fewer than twenty updates an epoch learn slowly."""
    effective_batch: PositiveInt = 64
    """Graphs per weight update; smaller batches accumulate gradients up to it."""

    def cap(self, dataset_size: int) -> int:
        """The largest batch for so many complexes."""
        return max(1, min(self.max_batch, int(dataset_size * self.training_share)))


class DatasetRules(Settings):
    """Which complexes to train on, and what becomes of those much larger than the rest."""

    default_size: PositiveInt = 19_000
    """Complexes assumed when nobody says: the size of the PDBbind general set."""
    path: str = ""
    """A PDBbind-style folder, or a CSV or Parquet manifest. Empty: the test bench's complex stands for the data."""
    index: str = ""
    """The PDBbind index file. Empty: looked for in the folder."""
    protein_suffixes: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "protein", "protein_processed", "protein_fixed", "protein_prepared", "protein_clean", "protein_nowater",
        "protein_obabel_reduce", "protein_hs", "receptor", "receptor_fixed", "rec", "apo", "target",
    )  # fmt: skip
    """Words that end the names of protein files, best first: `1abc_protein.pdb`, or `receptor.pdb` in the folder `1abc`."""
    pocket_suffixes: tuple[str, ...] = ("pocket",)
    """The same for files of the residues near the ligand, which stand in for a missing protein file."""
    ligand_suffixes: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "ligand", "ligand_fixed", "ligand_processed", "ligand_crystal", "crystal_ligand", "lig",
    )  # fmt: skip
    """The same for ligand files."""
    catalogue: str = ""
    """The file that a scan of `path` wrote. Filled in by whoever scans."""
    pocket_radius: PositiveFloat | None = 8.0
    """Å around any heavy ligand atom within which protein atoms are kept, as for the test bench."""
    max_atoms: PositiveInt = 25_000
    """A complex with more atoms is rejected."""
    oversize_share: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """The largest complexes, as a share of all, that must not decide for the rest: sizes have long tails, and one batch
    of giants would take the memory that a larger model could use."""
    oversize: Literal["isolate", "crop", "refuse"] = "isolate"
    """What becomes of them: a batch of its own each, a smaller pocket, or left out, by name."""


# ----------------------------------------------------------------------------------------------------- measurement


class RuntimeRules(Settings):
    """What is fixed before anything is measured."""

    threads: PositiveInt | None = None
    """Compute threads; None: the cores this process may use, or half of them where a CPU is faster so, which hyperthreads
    make it."""
    waiting: Waiting | None = None
    """Whether threads that wait for each other sleep or spin; None: measured. On two idle cores of a virtual machine spinning
    took a third off short steps and halved their scatter; beside one busy process it made them two to nine times as long."""
    trial_gain: Share = 0.03
    """Fewer threads must save this share of a step: two timings of one setting differ by as much."""
    idle_cores: PositiveFloat = 0.1
    """Cores that other programs may keep busy and threads still spin without being compared with sleeping: what a desktop does
    in the background. A step that waits for a core it is not given takes several times as long."""
    spin_gain: Share = 0.05
    """Spinning must save this share of the mean step: on idle cores it saves an eighth to a half (SchNet: nothing), and where
    something else runs a step takes twice to twenty times as long."""
    loader_share: Share = 0.02
    """Making a batch ready may take this share of a step before another process is to do it: less is lost in the noise, and
    on a CPU every such process takes a core from training."""
    loader_headroom: PositiveFloat = 1.5
    """Loading processes are enough if they could make so many times the batches that training takes: a batch may be larger
    than the mean, and a file not in the system's cache."""


class MemoryRules(Settings):
    """How much memory may be promised."""

    reserve_share: Share = 0.05
    """Left to the system when no limit is given: other programs grow too."""
    live_margin: Share = 0.01
    """Least one-sided margin over predicted live bytes. On held-out configurations the form was off by at most 0.4 %;
    this also covers what a training loop holds beside the step (a metric, the next batch's copy)."""
    footprint_ratio_tight: PositiveFloat = 1.01
    """(footprint − baseline) / live under the `tight` allocator, an upper value. Measured on glibc 2.36, 450 MB to
    1.8 GB of live bytes: at most 1.003."""
    footprint_ratio_fast: PositiveFloat = 1.55
    """The same under `fast` and `system`: at most 1.38 over seven models, and 1.50 in 3 layers of 96. Fragmentation; raised by
    what is seen."""
    footprint_ratio_recomputing: PositiveFloat = 4.3
    """The same under `fast` with activation checkpointing: 3.9 in 7 layers of 128. The heap does not give back what was freed."""
    footprint_ratio_accelerator: PositiveFloat = 1.25
    """Reserved over allocated bytes of a caching allocator that splits fixed segments, before any was seen."""
    footprint_ratio_accelerator_recomputing: PositiveFloat = 1.7
    """The same with activation checkpointing: short-lived blocks of many sizes; up to 1.66 in bf16, simulated."""
    footprint_constant_bytes: PositiveInt = 80 * 1024**2
    """Grows on a CPU once a process trains, whatever the model: kernels, thread stacks, arenas. Measured 28–36 MB in certificates,
    and up to 66 after hundreds of small batches of many sizes."""
    idle_headroom_bytes: PositiveInt = 64 * 1024**2
    """A limit must leave at least this much above an idle worker, or no model fits."""


class ProbeRules(Settings):
    """How long and how often to measure."""

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
    """(atoms, neighbours) of the calibration's made-up graphs: three determine a plane in atoms and edges."""
    micro_architectures: SomeShapes = ((3, 16), (3, 64), (6, 16), (6, 64))
    """(layers, channels) probed at every load. From three layers up: with two the fit was off by 2–6 %."""
    extra_architectures: Shapes = ((4, 96), (5, 128))
    """(layers, channels) probed at the first load, for the square of the channels."""
    more_architectures: Shapes = ((4, 32), (7, 48), (3, 128))
    """(layers, channels) probed at every load too, when leaving probes out shows that the memory model's form does not
    hold."""
    poor_fit: Share = 0.015
    """A probe off by more than this share from what the others predict says so."""
    anchor_architectures: SomeShapes = ((2, 32), (3, 96), (5, 192))
    """(layers, channels) timed on several copies of the sample: a GPU is not busy with made-up graphs. With none wider than 96
    channels, models of 200 were predicted 20 % too fast on an H200. The shallowest and the deepest also on one graph, and so is
    one of every variant: recomputing doubled what launching takes there."""
    anchor_checkpointing: Shapes = ((5, 192),)
    """The same with activation checkpointing, which is much the same but for a factor."""
    anchor_architectures_cpu: SomeShapes = ((3, 48), (8, 96), (4, 192))
    """The same on a CPU, where made-up graphs tell something but do not have the sample's memory locality. Small, deep and
    wide: with none wider than 96 channels, models of 176 were predicted 15 % too fast."""
    anchor_checkpointing_cpu: Shapes = ((3, 48), (4, 192))
    """The same with activation checkpointing: small and wide. A deep one in place of the wide left models of 160 channels 6 to
    12 % too fast; depth is known from what is not recomputed."""
    anchor_share: Share = 0.25
    """Of the memory budget that a timing probe may fill: enough to keep a GPU busy, safe before the footprint's
    ratio was seen."""
    anchor_step_s: PositiveFloat = 1.0
    """Nor may its step be expected to take longer."""
    anchor_step_s_cpu: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.15, 0.5, 0.3)
    """The same on a CPU, where every anchor is timed at several loads, the next after all have had the one before: step times
    there drift by some per cent within a minute, and grow a little faster than the load. The first is of the sample in the
    least usual proportion of features, for copies of one cannot tell what each costs. The last is there because one of so few
    may be wrong: 144 ms were once timed as 216. Without it and the small recomputing anchor, half of the models never timed were
    off by 4.7 % and a twentieth by 13, with them by 3.2 and 9."""
    anchor_steps: Range = (4, 7)
    """Fewest and most steps of a timing probe, two of them warm; on until they agree within `anchor_settle_share`, so
    that one hiccup does not pass for a step time."""
    anchor_steps_cpu: Range = (5, 8)
    """The same on a CPU, whose steps differ more."""
    anchor_settle_share: Share = 0.05
    """Good enough to choose by: 5 % of throughput is 0.3–0.5 % of the score."""
    micro_steps: PositiveInt = 2
    """Optimizer state exists from the second step on; the profiled one follows. On an accelerator one: launching is
    all that a step takes there, so that only memory is asked for."""
    micro_timeout_s: PositiveFloat = 60.0
    """A micro-probe takes some tens of milliseconds; a minute is a hang."""
    settle_share: Share = 0.03
    """A confirmed step time is settled when half its interval is under this share of the median."""
    patience_s: PositiveFloat = 20.0
    """How long a confirming run may go on past its fixed batches for a step time that has not settled."""
    smoke_steps: PositiveInt = 20
    """Of the smoke test: half a second on the smallest model; of four, its cycle was off by a tenth."""
    timed_steps: PositiveInt = 5
    """Fewest steps on a batch of the mean load, after a dataset's worst ones have shown that memory suffices."""
    timed_s: PositiveFloat = 6.0
    """Short steps are timed for so long: what a cycle takes is their mean, which needs more of them than the median. On a
    virtual machine five seconds differ by 2.7 % from the minute around them, and that minute by 3 % from the hour."""
    timed_most: PositiveInt = 80
    """Steps that are enough for that."""
    shuffled_batches: PositiveInt = 5
    """Between the two worst batches of a certificate: one run proves nothing, order and history matter."""
    shuffled_s: PositiveFloat = 60.0
    """Of which as many as should take so long, and one at least: a step of a large model on a CPU takes minutes."""
    timeout_factor: PositiveFloat = 10.0
    """A probe may take this many times its predicted time before it is killed."""
    timeout_floor_s: PositiveFloat = 120.0
    """Never less: start-up on a busy machine."""
    certify_rounds: PositiveInt = 3
    """How often a stage may correct its choice by what confirming showed."""
    certify_again: Annotated[int, Field(ge=0)] = 2
    """How often a certificate is repeated whose steps are beyond doubt slower than predicted. Other work on the machine only
    adds to a time: once, steps of 77 ms were certified at 98."""
    refill_share: Share = 0.98
    """Where memory binds and a certified batch is less than this of what its own footprint then allows, a larger one is
    tried: below fifty graphs, one more is worth a certificate."""


class SplitRules(Settings):
    """What is trained on, what chooses the best checkpoint, and what judges it."""

    by: Literal["random", "year", "scaffold", "lists", "clusters", "given"] = "random"
    """`year`: the newest are the test set; `scaffold`: ligands of one Murcko scaffold stay together; `lists`: files of ids;
    `clusters`: proteins of one cluster stay together; `given`: what a manifest's `split` column says."""
    val_share: Share = 0.1
    """Of the complexes. Lists and a manifest say themselves."""
    test_share: Share = 0.1
    """Of the complexes. Lists and a manifest say themselves."""
    train_list: str = ""
    """A file with an id a line; empty: whatever the other lists do not name."""
    val_list: str = ""
    """A file with an id a line."""
    test_list: str = ""
    """A file with an id a line."""
    clusters: str = ""
    """A file with a cluster a line, its ids separated by blanks, as MMseqs2 and PDB sequence clusters are written."""


class TrainingRules(Settings):
    """How a planned model is trained. Of these, none changes what a step takes in memory or time."""

    learning_rate: PositiveFloat = 3e-4
    """At `reference_batch` graphs an update; between what ViSNet's authors use for small and for large molecules."""
    reference_batch: PositiveInt = 64
    """Graphs an update that `learning_rate` is for."""
    batch_exponent: Share = 0.5
    """The rate grows with (graphs an update / reference_batch) to this power: the square root is the rule for Adam (Malladi
    et al., NeurIPS 2022); 1 is the rule for SGD, 0 leaves the rate alone."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's."""
    clip_norm: PositiveFloat = 10.0
    """Gradients are scaled down to this norm: above it lies an outlier complex, seldom a useful direction."""
    warmup_share: Share = 0.05
    """Of the updates, over which the rate rises from zero: Adam's second moment has to fill."""
    final_share: Share = 0.01
    """Of the rate that is left at the end of the cosine."""
    dropout: Share | None = None
    """Of every dropout layer the model has; None: what the family built it with. ViSNet has none."""
    epochs: PositiveInt = 100
    """Passes over the training set, unless cycles or a time are asked for."""
    keep_last: PositiveInt = 2
    """Checkpoints that are kept beside the best: one may be damaged by the very failure that calls for it."""
    checkpoint_s: PositiveFloat = 600.0
    """Seconds between two checkpoints, the most that a crash costs."""
    split: SplitRules = SplitRules()


class VerifyRules(Settings):
    """When a profile is as good as its word."""

    step_tolerance: Share = 0.1
    """How much longer than planned a step may take, beyond doubt (by the lower end of the median's interval): certificates
    settle to 3 %, and on a machine that is shared the same one repeated differs by up to 10 %. What is faster than planned
    breaks no promise."""


class SearchRules(Settings):
    """When to stop searching."""

    gain_share: Share = 0.002
    """Stop when no probe is expected to improve the score by more than this. On 50 simulated scenarios twice the share that we began
    with left the regret as it was and timed one model less."""
    probes_per_stage: PositiveInt = 3
    """Timing probes a stage may spend on contenders."""
    sampler: Literal["structured", "gp", "tpe", "random", "grid"] = "structured"
    """Who chooses what prototyping and validation time: Compass, which knows what a step is made of, or one of Optuna's
    own samplers, which see scores only."""
    sampler_trials: PositiveInt = 12
    """Trials a stage gives one of Optuna's samplers: four times our own probes, for five of them are random."""
    runners_up: PositiveInt = 4
    """How many alternatives the profile keeps."""


class OptimizerConfig(Settings):
    """Everything tunable."""

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
    """Batches in a cycle."""
    seed: int = 0
    """Of everything random."""


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
