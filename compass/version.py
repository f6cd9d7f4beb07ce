"""The version of the package. Code inside reads it here, because only code outside imports the package root."""

__version__ = "0.2.0"
