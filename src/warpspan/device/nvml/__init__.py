"""NVIDIA's management library: the only room that calls NVML."""
