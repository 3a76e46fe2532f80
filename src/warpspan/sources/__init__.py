"""Records read back from where they were exported to."""
