"""Searching images for defects: what is found in each, as a table, as JSON and as a page with the boxes drawn."""

from restore.evaluation.defects.search import Searched, search

__all__ = ["Searched", "search"]
