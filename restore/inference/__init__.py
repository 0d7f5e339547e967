"""Pixels through networks: the `Restorer`, tiling, and folders of images."""

from restore.inference.restorer import Restorer

__all__ = ["Restorer"]
