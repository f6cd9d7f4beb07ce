"""Plans for a machine that is not here: any object with `describe`, `probe` and `close` can stand for one.

Here it is a simulated laptop. Hardware behind a queue, or in another room, is used in the same way.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from compass import Request, optimize
from compass.probe.simulation import SimulatedRunner, machine_named


def main() -> None:
    """Optimize for it, and print what came out."""
    runner = SimulatedRunner(machine_named("RTX 3060 Laptop 6GB"))
    with TemporaryDirectory() as folder:
        request = Request(dataset_size=19_000, out=Path(folder) / "hardware_profile.json")
        profile = optimize(request, runner=runner)
    for stage, plan in profile.plans.items():
        print(f"{stage}: {plan.choice.knobs}, batch {plan.choice.batch_size}: {plan.why}")


if __name__ == "__main__":
    main()
