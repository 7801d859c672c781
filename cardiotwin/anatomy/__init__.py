"""Meshes of the heart: files, idealised shapes, fibres, coordinates and quality."""
