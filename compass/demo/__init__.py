"""A small, real dataset to try every command on. Importing this loads no structures."""

from compass.demo.writing import Demo, write_demo

__all__ = ["Demo", "write_demo"]
