"""What the machine code for an H100 says, read without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# What the smallest of current datacentre and desktop GPUs (sm_86, sm_89) has for a program.
SHARED_BYTES = 99 * 1024
# Work on the little that the kernels before them leave; all others are bound by memory.
NARROW = ("decode_attention._join", "top_k_softmax._select")


@pytest.fixture(scope="module")
def kernels():
    """Every kernel and configuration in bfloat16."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "compile_ahead.py"],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"TRITON_DEFAULT_FP_FUSION": "1"},
    )
    assert 0 == done.returncode, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_kernel_compiles(kernels):
    """The interpreter takes what the compiler refuses: each kernel goes through both."""
    assert {
        "add_layer_norm._kernel",
        "add_rms_norm._kernel",
        "bias_gelu._kernel",
        "decode_attention._join",
        "decode_attention._parts",
        "rope._kernel",
        "softmax._in_registers",
        "softmax._online",
        "swiglu._kernel",
        "top_k_softmax._candidates",
        "top_k_softmax._select",
        "w8a16_linear._matrix",
        "w8a16_linear._vector",
    } == {one["kernel"] for one in kernels}


def test_no_kernel_spills(kernels):
    """A row that is said to be held in registers is held in registers."""
    assert [] == [one for one in kernels if one["stack"]]


def test_every_kernel_fits_in_the_shared_memory_of_smaller_gpus(kernels):
    """Also those in stages."""
    assert [] == [one for one in kernels if one["shared"] > SHARED_BYTES]


def test_memory_is_read_16_bytes_at_a_time(kernels):
    """At sizes of real models, whose rows are aligned."""
    narrow = {one["kernel"] for one in kernels if one["widest_load_bits"] < 128}
    assert set(NARROW) == narrow
