"""The files of a training run that never was, for all who read such files."""

import math
import random

import numpy as np

from compass.data.scan.rows import Label
from compass.files import write_text
from compass.records import Cycle, Evaluation, Fingerprint, Metrics
from compass.training.checkpoints import Progressed
from compass.training.cycle_report import append_row, epoch_row
from compass.training.evaluation import evaluate
from compass.training.last_evaluation import PREDICTION_FIELDS
from compass.training.results import Results
from compass.training.run_spec import Amount, RunSpec, write_run_spec
from compass.training.verdict import PartErrors, judge_run, no_verdict, not_evaluated

PARTS = (("train", 400), ("val", 150), ("test", 200))


def write_run(folder, plan, config, *, n_epochs=30, n_cycles=6, sizes=PARTS, noun=""):
    """Writes the files of a run that learnt something of the complex: errors of 0.7, 1.1 and 1.2 pK, the ligand's 1.4.

    With a `noun`, those of a run of a workload of one's own, which has no labels.
    """
    sizes = () if noun else sizes
    draw = random.Random(3)
    spec = RunSpec(
        plan=plan, workload="visnet", noun=noun, config=config, batching="batch_size", budget_bytes=plan.certificate.ceiling_bytes,
        fingerprint=Fingerprint(device="Some CPU", driver="x", torch="2.13", versions=(), workload="w"), amount=Amount(epochs=n_epochs),
    )  # fmt: skip
    write_run_spec(spec, folder)
    errors = {"train": (0.7, 1.2), "val": (1.1, 1.4), "test": (1.2, 1.4)}
    lines, answers, labels = [], {"model": {}, "ligand baseline": {}, "mean baseline": {}}, {}
    for part, size in sizes:
        for i in range(size):
            name, pk = f"{part}{i:04d}", round(draw.gauss(6.4, 1.8), 2)
            labels[name] = Label(pk=pk, relation=">" if i % 25 == 7 else "=")
            found = [pk + draw.gauss(0, error) for error in errors[part]]
            lines.append(f"{name},{part},{pk:.3f},{labels[name].relation},{found[0]:.3f},{found[1]:.3f}")
            for of, value in zip(answers, (*found, 6.4), strict=True):
                answers[of][name] = value
    evaluations = tuple(
        evaluate(part, {name: value for name, value in values.items() if name.startswith(part)}, labels, of,
                 16_000 if part == "train" else None)
        for of, values in answers.items() for part, _ in sizes
    )  # fmt: skip
    (folder / "predictions.csv").write_text("\n".join([",".join(PREDICTION_FIELDS), *lines]) + "\n")
    for epoch in range(1, n_epochs + 1):
        train, val = (
            0.5 + 2.8 * math.exp(-epoch / 8),
            1.05 + 0.7 * math.exp(-epoch / 6) + 0.004 * epoch + draw.gauss(0, 0.02),
        )
        metrics = Metrics(n=150, rmse=val, mae=0.8 * val, pearson=0.6, spearman=0.6)
        append_row(epoch_row(epoch, 40 * epoch, train, Evaluation(part="val", metrics=metrics)), folder / "epochs.csv")
    bytes_, step_s = plan.certificate.footprint_bound_bytes, plan.measured.step.median_s
    for number in range(1, n_cycles + 1):
        n, slower = 450 if number < n_cycles else 210, 1.3 if number == 3 else 1 + draw.gauss(0.02, 0.01)
        cycle = Cycle(
            number=number, n_batches=n, n_graphs=31 * n, predicted_s=n * step_s, measured_s=n * step_s * slower, data_s=0.02 * n * step_s,
            step_s=step_s * slower, bound_bytes=bytes_, peak_bytes=int(bytes_ * (0.9 + 0.01 * number)), loss=3.0 / number,
        )  # fmt: skip
        append_row(cycle.model_dump(), folder / "cycles.csv")
    verdict = judge_run({part: errors_of(part, answers, labels) for part, _ in sizes}, 1_200, 500)
    verdict = no_verdict(not_evaluated(noun), 1_200, 500) if noun else verdict
    results = Results(
        finished=True, at=Progressed(n_updates=1_200, elapsed_s=2_520.0 * step_s, n_batches=2_460), cycles=(), evaluations=evaluations,
        verdict=verdict, split=3, deferred=0, out_of_memory=0, skipped=(), checkpoint="best.ckpt",
    )  # fmt: skip
    write_text(results.model_dump_json(indent=2) + "\n", folder / "results.json")


def errors_of(part, answers, labels):
    """The errors of the model and of both baselines on the labels of `part` that are values."""
    names = [name for name, label in labels.items() if name.startswith(part) and label.relation == "="]
    truth = np.array([labels[name].pk for name in names])
    guesses = (np.array([answers[of][name] for name in names]) for of in ("model", "ligand baseline", "mean baseline"))
    return PartErrors(*(guess - truth for guess in guesses))
