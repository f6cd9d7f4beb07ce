"""A fleet of simulated kinds under faults, and of a thousand runners: `python -m benchmarks.fleet`."""
