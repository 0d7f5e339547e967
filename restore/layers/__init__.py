"""Blocks and what goes into them: windows, mixers, feed-forward networks, norms, positions."""
