"""Conductivities, stimuli and sites."""
