"""Where the pixels of a dataset are kept: files, lmdb databases, packs in one memory-mapped file, and the cache."""
