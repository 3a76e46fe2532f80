"""Patches of libraries on top of torch, applied when the program imports them."""
