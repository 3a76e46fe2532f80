"""Right values on the virtual GPU, which by itself computes nothing.

    with values.right():
        model.generate(tokens)

Every operator of the CUDA backend then runs as before, and torch's CPU kernel computes its result
in the same memory: in all threads, in replays of graphs too, and at the host's speed. Random
numbers come from a generator of its own and not from the seed. Triton's kernels compute nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from virtual_gpu.build import VALUES


@functools.cache
def _library() -> ctypes.CDLL:
    import torch  # its libraries first  # noqa: F401

    library = ctypes.CDLL(str(Path(os.environ["VIRTUAL_GPU_FOLDER"]) / VALUES))
    library.virtual_gpu_values_missed.restype = ctypes.c_size_t
    library.virtual_gpu_values_missed.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return library


def on() -> int:
    """From now on; how many operators are computed."""
    return int(_library().virtual_gpu_values_on())


def off() -> None:
    """No more."""
    _library().virtual_gpu_values_off()


@contextlib.contextmanager
def right() -> Iterator[None]:
    """Inside the block."""
    on()
    try:
        yield
    finally:
        off()


def missed() -> dict[str, str]:
    """Operators that were called and have no right values, and why."""
    text = ctypes.create_string_buffer(1 << 16)
    _library().virtual_gpu_values_missed(text, len(text))
    lines = (line.partition(": ") for line in text.value.decode(errors="replace").splitlines())
    return {name: why for name, _, why in lines}
