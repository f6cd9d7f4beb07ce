"""Does Compass understand a workload? A minute of probes, and what they say in words."""
