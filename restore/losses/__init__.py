"""Losses by name: modules that take (restored, reference) in [0, 1] and return a scalar.

Those that are given something else say so in `compares`: `scores` or `features` of a discriminator, features of
`patches`, `opinions`, or `boxes`.
"""
