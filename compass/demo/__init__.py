"""A small, real dataset to try every command on: complexes cut out of the embedded structure."""
