"""Mixers that see a map as a graph, or as a set of points."""
