"""The schema of an option file, one module for each of its sections."""

from restore.options.schema.options import Options
from restore.options.schema.section import Block, Section, fitted

__all__ = ["Block", "Options", "Section", "fitted"]
