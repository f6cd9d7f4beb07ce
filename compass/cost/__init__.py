"""Memory and step time of every configuration, predicted by models that are fitted to a few probes."""
