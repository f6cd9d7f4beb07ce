"""A folder or manifest of complexes: listed, read in a pool of processes, catalogued on disk."""
