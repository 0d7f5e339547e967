"""Encoders that see an image as a graph, or as a set of points."""
