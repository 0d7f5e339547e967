"""Models by name: cards, shipped weights, and the way from a name or a file to a `Restorer`."""

from restore.zoo.card import Card, find_card, list_cards
from restore.zoo.load import build_model, list_models, load_model, load_network

__all__ = ["Card", "build_model", "find_card", "list_cards", "list_models", "load_model", "load_network"]
