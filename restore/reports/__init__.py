"""Everything that draws: pages, pictures and figures, in one style."""
