"""Faults at random moments of real runs, and the rules that the end state is judged by: `python -m benchmarks.faults`."""
