"""Losses by name: modules that take (restored, reference) in [0, 1] and return a scalar."""
