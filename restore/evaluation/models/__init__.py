"""A restoration model over datasets, beside a baseline: figures, restored images and a page of pictures."""
