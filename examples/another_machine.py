"""Plan for another machine: any object with `describe`, `probe` and `close` can represent it.

Here it is a simulated laptop. A machine behind a batch queue or a network works in the same way.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from compass import Request, optimize
from compass.probe.simulation import SimulatedRunner, machine_named


def main() -> None:
    """Optimize for the simulated machine and print each stage's plan."""
    runner = SimulatedRunner(machine_named("RTX 3060 Laptop 6GB"))
    with TemporaryDirectory() as folder:
        request = Request(dataset_size=19_000, out=Path(folder) / "hardware_profile.json")
        profile = optimize(request, runner=runner)
    for stage, plan in profile.plans.items():
        print(f"{stage}: {plan.choice.knobs}, batch {plan.choice.batch_size}: {plan.why}")


if __name__ == "__main__":
    main()
