"""Attention in windows compiled from C, for processors that `library` has code for; optional everywhere.

setup.py builds one shared library of the files in `source/`, beside them, for every kind of processor of its
architecture. Where it is missing, cannot be used or is switched off, the code in torch's operators is taken.
"""
