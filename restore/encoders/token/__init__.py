"""Encoders whose blocks attend among tokens."""
