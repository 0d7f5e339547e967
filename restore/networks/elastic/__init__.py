"""Networks that hold others: a space of choices, a supernet whose slices they are, and paths that are pruned."""

from restore.networks.elastic.counting import num_parameters
from restore.networks.elastic.space import Choice, Space
from restore.networks.elastic.supernet import Supernet

__all__ = ["Choice", "Space", "Supernet", "num_parameters"]
