"""Several machines: their nodes, one profile for each kind of node, and which stage runs best on which."""
