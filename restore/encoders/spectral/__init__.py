"""Encoders that mix positions by their Fourier transform."""
