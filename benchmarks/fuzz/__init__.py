"""Damaged and made-up input for every reader: `python -m benchmarks.fuzz`. See `__main__.py`."""
