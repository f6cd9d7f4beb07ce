"""The version, where everyone inside may read it: the package root is imported from outside only."""

__version__ = "0.1.0"
