"""From a machine to certified plans: calibration, search, certificates and alternatives."""
