"""Records become something to read."""
