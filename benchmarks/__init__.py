"""Measurements behind the claims of the documentation. Each module prints a table and, as its last line, one JSON object of figures."""
