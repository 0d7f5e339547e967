"""What can be said of a network by looking at it: its cost."""
