"""Captures: a few inferences under a profiler, on demand (docs/profiling.md)."""
