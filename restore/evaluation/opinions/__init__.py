"""A quality model over rated images: how well its scores agree with people's opinions."""
