"""Paths, guidance and solvers of flow matching: mathematics without a framework around it."""
