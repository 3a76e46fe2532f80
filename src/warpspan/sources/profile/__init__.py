"""What the readers of profiler traces share: events, inferences, gaps, kernels, rooflines."""
