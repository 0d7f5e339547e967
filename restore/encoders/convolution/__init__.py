"""Encoders made of convolutions."""
