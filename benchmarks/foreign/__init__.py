"""A judge whose physics share nothing with the cost models that it judges, nor with the simulated hardware of the package.

Each kind of physics is a class with memory and time laws of its own. A `fair` kind shows all that matters in short probes; of a
`hard` kind no short probe can know enough.
"""
