"""Raw readings of one inference."""
