"""Mixers whose weights depend on what is there: attention of positions, of windows, of channels."""
