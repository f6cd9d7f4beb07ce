"""From files to complexes and their graphs, one complex at a time."""
