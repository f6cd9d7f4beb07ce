"""Probes: real training steps in a worker process, and the ledger of their outcomes."""
