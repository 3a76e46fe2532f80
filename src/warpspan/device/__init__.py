"""Counters of the GPU driver: samples, and the share of each inference."""
