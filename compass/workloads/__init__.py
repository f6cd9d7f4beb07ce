"""Workloads: a model family with its data and its loss, behind a small protocol."""
