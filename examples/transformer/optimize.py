"""From the training script beside this file to a profile, and back into training.

python examples/transformer/optimize.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from train import main as train
from workload import Transformer

import compass


def main() -> None:
    """Make a prototyping plan, then train with it."""
    with TemporaryDirectory() as folder:
        profile = compass.optimize(
            Transformer, stages=("prototyping",), dataset_size=50_000, memory_limit="2GiB",
            out=Path(folder) / "hardware_profile.json", cache=folder,
        )  # fmt: skip
    plan = profile.plans["prototyping"]
    knobs = plan.choice.knobs
    print(f"{knobs}, batch {plan.choice.batch_size}: a cycle of {plan.measured.cycle_s / 60:.1f} min. {plan.why}")
    train(knobs.layers, knobs.channels, plan.choice.batch_size, n_steps=2)


if __name__ == "__main__":
    main()
