"""NVIDIA's management library: only this package calls NVML."""
