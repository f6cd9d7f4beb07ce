"""The commands as Python functions. `compass.optimize`, `compass.train` and the others are these."""
