"""Where warpspan listens: one patched surface a file."""
