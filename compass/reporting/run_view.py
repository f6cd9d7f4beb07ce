"""The content of a report on a training run, without its form: HTML and Markdown are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compass.commands import command
from compass.records import Standing
from compass.records.nouns import counted, of_batch, of_data
from compass.records.training import OF_LIGAND, OF_MEAN, OF_MODEL
from compass.reporting.figure import Figure, Table
from compass.reporting.results import PART_NAMES, RESULTS_TITLE, results_table, sentence
from compass.reporting.run_evidence import RunEvidence
from compass.reporting.run_figures import (
    complex_table,
    cycle_figures,
    cycle_table,
    epoch_table,
    learning_figure,
    parity_figures,
)
from compass.reporting.run_promises import Totals, promise_table, promise_words, totals_of
from compass.reporting.view import Facts, Gauge
from compass.reporting.words import STAGE_NAMES, choice_words, of_bytes, rate
from compass.units import format_bytes, format_count, format_seconds

Tone = Literal["good", "between", "bad", "unknown"]
TONES: dict[Standing, Tone] = {
    "worse_than_mean": "bad",
    "no_better_than_mean": "bad",
    "worse_than_ligand": "between",
    "no_better_than_ligand": "between",
    "better_than_ligand": "good",
    "unknown": "unknown",
}
"""The colour of the verdict; its words say the same."""


@dataclass(frozen=True)
class RunCard:
    """One finding in short, and the section that it stands for."""

    section: str
    name: str
    headline: str
    gauges: tuple[Gauge, ...]


@dataclass(frozen=True)
class RunView:
    """The content of the whole report."""

    title: str
    headline: str
    """The verdict on the training, in a sentence."""
    tone: Tone
    subtitle: str
    """Stage, model, workload and data."""
    created: str
    missing: tuple[str, ...]
    next: Facts
    """Commands that a reader may type next, with what each is for."""
    cards: tuple[RunCard, ...]
    results_title: str
    results: Table
    learning: Figure | None
    parity: tuple[Figure, ...]
    promises: Table
    promises_text: str
    cycles: tuple[Figure, ...]
    facts: Facts
    tables: dict[str, Table]

    @property
    def figures(self) -> list[Figure]:
        """Every plot, in the order of the page."""
        return [*self.parity, *([self.learning] if self.learning else []), *self.cycles]


def run_view_of(run: RunEvidence) -> RunView:
    """The report on `run`."""
    stage = STAGE_NAMES[run.plan.stage] if run.plan else "Training"
    return RunView(
        title=f"Compass: {stage.lower()} run",
        headline=_headline(run),
        tone=TONES[run.verdict.standing] if run.verdict else "unknown",
        subtitle=_subtitle(run, stage),
        created=" · ".join(text for text in (run.name, run.fingerprint.device if run.fingerprint else "") if text),
        missing=run.missing,
        next=_next(run),
        cards=tuple(_cards(run)),
        results_title=RESULTS_TITLE,
        results=results_table(run.evaluations, run.noun),
        learning=learning_figure(run),
        parity=tuple(parity_figures(run)),
        promises=promise_table(run),
        promises_text=promise_words(run),
        cycles=tuple(cycle_figures(run)),
        facts=_facts(run),
        tables=_tables(run),
    )


def _headline(run: RunEvidence) -> str:
    if run.verdict is not None:
        return sentence(str(run.verdict))
    if run.finished is None:
        n_epochs = len(run.epochs)
        return f"Not finished: {n_epochs:,} {'epoch has' if n_epochs == 1 else 'epochs have'} ended."
    return "Finished, without a verdict." if run.finished else "Stopped before its end."


def _next(run: RunEvidence) -> Facts:
    going_on = [] if run.finished else [(command("train", {"--out": run.name}, ["--resume"]), "go on where it stopped")]
    if not run.best or run.noun:  # `compass predict` reads complexes
        return tuple(going_on)
    return (*going_on, (command("predict", {}, [run.best, "YOUR_COMPLEXES"]), "use the best model so far"))


def _subtitle(run: RunEvidence, stage: str) -> str:
    parts = [stage]
    if run.plan:
        parts.append(choice_words(run.plan.choice))
    if run.workload:
        parts.append(run.workload)
    if run.config and run.config.dataset.path:
        parts.append(run.config.dataset.path)
    return " · ".join(parts)


def _tables(run: RunEvidence) -> dict[str, Table]:
    """The values behind the plots, by key."""
    tables = {"epochs": epoch_table(run), "predictions": complex_table(run), "cycles": cycle_table(run)}
    return {key: table for key, table in tables.items() if table.rows}


# --------------------------------------------------------------------------------------------------------------- cards


def _cards(run: RunEvidence) -> list[RunCard]:
    accuracy, totals = _accuracy(run), totals_of(run.cycles)
    return [
        *([accuracy] if accuracy else []),
        *([_time(run, totals), _memory(run, totals)] if totals else []),
    ]


def _accuracy(run: RunEvidence) -> RunCard | None:
    part = run.verdict.part if run.verdict and run.verdict.part else "test"
    rmse = {one.of: one.metrics.rmse for one in run.evaluations if one.part == part and one.metrics.rmse is not None}
    if OF_MODEL not in rmse:
        return None
    most = max(rmse.values())
    names = {OF_MODEL: "model", OF_LIGAND: "ligand alone", OF_MEAN: "mean"}
    gauges = tuple(Gauge(names[of], f"{rmse[of]:.2f}", rmse[of] / most) for of in names if of in rmse)
    return RunCard("results", f"Error on the {PART_NAMES[part]} set", f"RMSE {rmse[OF_MODEL]:.2f} pK", gauges)


def _time(run: RunEvidence, totals: Totals) -> RunCard:
    gauges = [
        Gauge(
            "batches", f"{format_seconds(totals.predicted_s)} promised, {format_seconds(totals.measured_s)} measured"
        ),
        Gauge(of_data(run.noun), f"{rate(totals.n_graphs / totals.measured_s)} per second"),
    ]
    if run.n_updates is not None:
        gauges.append(Gauge("updates", format_count(run.n_updates)))
    headline = format_seconds(totals.measured_s if run.elapsed_s is None else run.elapsed_s)
    return RunCard("promises", "Training time", headline, tuple(gauges))


def _memory(run: RunEvidence, totals: Totals) -> RunCard:
    allowed_bytes, n_cut = run.budget_bytes or totals.bound_bytes, run.split + run.out_of_memory
    used, kept = totals.peak_bytes / allowed_bytes, totals.peak_bytes <= totals.bound_bytes
    gauges = (
        Gauge("budget", f"{used:.0%} used", used),
        Gauge("bound", f"{format_bytes(totals.bound_bytes)}, {'kept' if kept else 'exceeded'}"),
        Gauge("batches cut", format_count(n_cut) if n_cut else "none"),
    )
    return RunCard("promises", "Memory", of_bytes(totals.peak_bytes, allowed_bytes), gauges)


# ---------------------------------------------------------------------------------------------------------------- facts


def _facts(run: RunEvidence) -> Facts:
    rows = [*_model_facts(run), *_course_facts(run)]
    if run.fingerprint is not None:
        rows += [("device", run.fingerprint.device), ("torch", run.fingerprint.torch)]
    return tuple(rows)


def _model_facts(run: RunEvidence) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    members = of_batch(run.noun)
    if run.plan is not None:
        rows += [
            ("model", f"{choice_words(run.plan.choice)}, {format_count(run.plan.choice.capacity)} parameters"),
            ("runtime", f"{run.plan.runtime.threads} threads, {run.plan.runtime.allocator} allocator"),
        ]
    if run.batching:
        fixed = f"a fixed number of {members}"
        rows.append(("batches", "filled up to the memory budget" if run.batching == "batch_budget" else fixed))
    if run.config is not None:
        rules = run.config.training
        rows += [
            ("effective batch", f"{counted(run.config.batch.effective_batch, members)} per weight update"),
            ("learning rate", f"{rules.learning_rate:g} at {counted(rules.reference_batch, members)} per update"),
            ("split", rules.split.by),
        ]
    return rows


def _course_facts(run: RunEvidence) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if run.amount:
        asked = [
            f"{value:g} {name}" for name, value in run.amount.items() if value is not None and name != "max_time_s"
        ]
        time_s = run.amount.get("max_time_s")
        asked += [] if time_s is None else [format_seconds(time_s)]
        rows += [("asked for", ", ".join(asked))] if asked else []
    if run.epochs:
        rows.append(("epochs", format_count(run.epochs[-1].number)))
    if run.n_updates is not None:
        rows.append(("weight updates", format_count(run.n_updates)))
    if run.elapsed_s is not None:
        rows.append(("batches and validations", format_seconds(run.elapsed_s)))
    events = [(run.split, "cut to the free memory"), (run.out_of_memory, "repeated after running out of memory")]
    told = [f"{n:,} batches {what}" for n, what in events if n]
    rows += [("memory", ", ".join(told))] if told else []
    rows += [("not trained on", ", ".join(run.skipped))] if run.skipped else []
    return rows
