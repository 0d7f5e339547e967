"""Mixers that are linear maps over positions."""
