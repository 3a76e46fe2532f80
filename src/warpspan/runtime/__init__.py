"""The caller's thread: what a module call is, the open inference and its steps."""
