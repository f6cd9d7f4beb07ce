"""Let SkyPilot choose the cheapest or fastest cloud with measured training times instead of its one hour for every task.

With SkyPilot installed and profiles from `compass fleet optimize`, three lines are yours:

    task = sky.Task(run="compass train production --dataset data")
    task.set_resources({sky.Resources(accelerators="A100:1"), sky.Resources(accelerators="T4:1")})
    task.set_time_estimator(compass.time_estimator(["fleet/a100.json", "fleet/t4.json"], "production"))

Here, profiles of simulated cards and a stand-in for `sky.Resources` show the same without a cloud.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import compass
from compass.optimizer import optimize
from compass.probe.simulation import SimulatedRunner, machine_named

PRICE_PER_HOUR = {"A100": 3.67, "T4": 0.35}
"""Of one card, from a price list of the day."""


@dataclass
class Resources:
    """Stands in for `sky.Resources`."""

    accelerators: dict[str, float]


def main() -> None:
    """Plan for two cards, and print what each candidate of SkyPilot's would take and cost."""
    profiles = []
    with TemporaryDirectory() as folder:
        for card in ("A100", "Tesla T4"):
            request = compass.Request(dataset_size=19_000, stages=("production",), out=Path(folder) / f"{card}.json")
            profiles.append(optimize(request, runner=SimulatedRunner(machine_named(card))))
    estimate = compass.time_estimator(profiles, "production")
    for card, price in PRICE_PER_HOUR.items():
        seconds = estimate(Resources({card: 1}))
        print(f"{card}: {seconds / 3600:.1f} h, {seconds / 3600 * price:.2f} dollars")


if __name__ == "__main__":
    main()
