"""Degradation operators on (B, C, H, W) tensors in [0, 1], one file for each kind."""
