"""Encoders whose mixers are multi-layer perceptrons over positions."""
