"""Patches of torch itself, one patched surface per file."""
