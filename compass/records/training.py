"""What a training run measures and finds: its files' names, cycles, metrics and verdict. Training writes it, reports read it."""

from __future__ import annotations

from typing import Literal

from compass.records.base import Record
from compass.units import format_bytes, format_count, format_seconds

CYCLES, EPOCHS, RESULTS, PREDICTIONS = "cycles.csv", "epochs.csv", "results.json", "predictions.csv"
"""Files in a run's folder."""
BEST_MODEL = "checkpoints/best.ckpt"
RUN_SPEC = "run.json"
RUN_SPECS = (RUN_SPEC, "order.json")
"""The file of a run's settings; before version 0.2 it had another name."""
OF_MODEL, OF_LIGAND, OF_MEAN = "model", "ligand baseline", "mean baseline"
"""Who predicts: the trained model, the ridge regression that sees the ligand alone, and the mean of the training labels."""

Standing = Literal[
    "worse_than_mean",
    "no_better_than_mean",
    "worse_than_ligand",
    "no_better_than_ligand",
    "better_than_ligand",
    "unknown",
]
"""The place of a model between the two baselines; `unknown` if it cannot be compared with them."""


class Cycle(Record):
    """A fixed number of batches, measured."""

    number: int
    n_batches: int
    n_graphs: int
    predicted_s: float
    """The predicted time of as many batches."""
    measured_s: float
    """Steps and waiting for data, without evaluations and checkpoints."""
    data_s: float
    """Waiting for data, part of `measured_s`."""
    step_s: float
    """The median step."""
    bound_bytes: int
    """The footprint that no batch should exceed."""
    peak_bytes: int
    """The largest footprint since training began."""
    loss: float
    """The mean over the graphs."""
    ends_at: int = 0
    """Batches of the whole run at its end; 0 in tables of version 0.1."""

    @property
    def slowness(self) -> float:
        """Measured over predicted time."""
        return self.measured_s / self.predicted_s

    def __str__(self) -> str:
        bottleneck = "data loading" if self.data_s > self.measured_s / 2 else "the device"
        return (
            f"cycle {self.number}: {self.n_batches} batches in {format_seconds(self.measured_s)} "
            f"({format_seconds(self.predicted_s)} predicted, {self.slowness - 1:+.1%}), "
            f"{self.data_s / self.measured_s:.0%} of it waiting for data: {bottleneck} is the bottleneck; "
            f"{format_bytes(self.peak_bytes)} at most (bound {format_bytes(self.bound_bytes)}); loss {self.loss:.3f}"
        )


class Metrics(Record):
    """Predictions compared with labels, in units of pK; None where there are too few labels, or where they do not vary."""

    n: int
    """Number of labels that are values."""
    rmse: float | None
    mae: float | None
    pearson: float | None
    spearman: float | None
    n_bounds: int = 0
    """Number of labels that are bounds."""
    bounds_kept: float | None = None
    """Share of the bounds on whose right side the prediction lies."""

    def __str__(self) -> str:
        figures = (("RMSE", self.rmse), ("MAE", self.mae), ("Pearson", self.pearson), ("Spearman", self.spearman))
        shown = [f"{name} {value:.2f}" for name, value in figures if value is not None]
        bounds = [] if self.bounds_kept is None else [f"{self.bounds_kept:.0%} of {self.n_bounds:,} bounds kept"]
        return ", ".join([*shown, f"n = {self.n:,}", *bounds])


class Evaluation(Record):
    """The metrics of a model or a baseline on one part of the data."""

    part: str
    metrics: Metrics
    of: str = OF_MODEL
    """`model`, or the name of a baseline."""
    sample_of: int | None = None
    """Complexes in the part, if only a sample of them was evaluated."""

    @property
    def score(self) -> float | None:
        """The figure that selects the best checkpoint; lower is better."""
        return self.metrics.rmse

    @property
    def complexes(self) -> str:
        """The number of evaluated complexes, e.g. `sample of 2,000 of 16,000`."""
        n = format_count(self.metrics.n + self.metrics.n_bounds)
        return n if self.sample_of is None else f"sample of {n} of {format_count(self.sample_of)}"

    def figures(self) -> dict[str, float]:
        """The metrics by name, for loggers."""
        found = self.metrics.model_dump()
        return {f"{self.part}_{name}": float(value) for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        return f"{self.part}, {self.of}: {self.metrics}"


class RunVerdict(Record):
    """What a training run was worth, in one sentence."""

    standing: Standing
    part: str = ""
    """The part of the data that was judged; empty if none could be."""
    n_updates: int
    """Weight updates that were made."""
    memorised: bool = False
    """Whether the error on the training part is far below that on the judged part."""
    says: str
    """The sentence, without a capital and a full stop."""

    def __str__(self) -> str:
        return self.says
