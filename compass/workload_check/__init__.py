"""`compass workload check`: a minute of probes that tests whether the cost model applies to a workload."""
