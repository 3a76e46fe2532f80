"""`warpspan bench`: fused kernels beside what else computes the same, checked and timed."""
