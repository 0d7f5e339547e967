"""Mixers that work on the Fourier transform of the map."""
