"""Data: which files belong together, datasets and loaders."""
