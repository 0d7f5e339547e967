"""Mixers that look at a neighbourhood with fixed weights."""
