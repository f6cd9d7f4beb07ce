"""Do the tests notice a wrong program? `python -m benchmarks.mutation`. See `__main__.py`."""
