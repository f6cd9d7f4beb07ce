"""Simulated hardware, for tests, benchmarks, and trying a search without a device.

`SimulatedRunner(machine_named("A100"), seed=0)` is a `compass.probe.runner.Runner`.
"""

from compass.probe.simulation.machines import MACHINES, Machine, machine_named
from compass.probe.simulation.runner import SimulatedRunner, load_of

__all__ = ["MACHINES", "Machine", "SimulatedRunner", "load_of", "machine_named"]
