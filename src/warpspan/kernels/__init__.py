"""Fused inference kernels in Triton, one operation a file, `swap.apply`, and their benchmark.

Each file has the kernel, its launcher, `reference()` in plain torch and `cost()` in bytes and
FLOPs, and can be used alone: it imports torch and triton only. Users import `warpspan.fused`.
"""

#: What to say where Triton is not installed.
NO_TRITON = (
    "warpspan.fused needs Triton, which comes with the CUDA and ROCm builds of torch; "
    "elsewhere: pip install triton"
)
