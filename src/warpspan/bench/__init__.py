"""Benchmarks: of warpspan itself, and of fused kernels."""
