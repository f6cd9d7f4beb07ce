"""Structures, graphs and labels: from files to what a workload batches. No torch in here."""
