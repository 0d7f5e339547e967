"""Degradation recipes: the small language of the YAML files, and the pipelines that it describes."""
