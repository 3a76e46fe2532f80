"""The finisher's thread: closed inferences become records."""
