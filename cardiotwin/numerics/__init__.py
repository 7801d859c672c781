"""Numerical building blocks: finite elements, gather-only operators, linear solvers."""
