"""Compiles every kernel as an H100 (sm_90) would get it, without a GPU; one JSON line a kernel.

Run by test_ahead_of_time.py in a process of its own, without Triton's interpreter. What the machine
lacks is scripted: the driver names a target and does not launch. Compiler and assembler are real.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import torch
import triton.backends.nvidia
from triton.backends.compiler import GPUTarget
from triton.runtime import autotuner, driver, jit

TARGET = GPUTarget("cuda", 90, 32)
TOOLS = Path(triton.backends.nvidia.__file__).parent / "bin"

# Sizes of real models, those at the edge of what a kernel takes, and short rows.
SIZES = {
    "add_rms_norm": ({"M": 1, "H": 4096}, {"M": 1, "H": 32768}),
    "add_layer_norm": ({"M": 4096, "H": 384}, {"M": 1, "H": 32768}),
    "swiglu": ({"M": 2, "I": 14336},),
    "rope": ({"B": 1, "S": 2, "Hq": 32, "Hk": 8, "D": 128},),
    "bias_gelu": ({"M": 2, "I": 4096},),
    "bias_gelu_tanh": ({"M": 2, "I": 4096},),
    "softmax": ({"M": 2, "N": 4096}, {"M": 2, "N": 32768}, {"M": 2, "N": 128256}),
    "top_k_softmax": ({"M": 1, "V": 128256, "k": 50}, {"M": 1, "V": 256000, "k": 256}),
    "w8a16_linear": ({"M": 1, "K": 4096, "N": 4096}, {"M": 8, "K": 4096, "N": 4096}),
    "decode_attention": (
        {"B": 1, "S": 512, "Hq": 32, "Hk": 8, "D": 128},
        {"B": 1, "S": 512, "Hq": 4, "Hk": 4, "D": 256},
    ),
    "paged_decode_attention": ({"B": 1, "S": 512, "Hq": 32, "Hk": 8, "D": 128, "page": 16},),
}


class Driver:
    """Names the target; a launch is never reached."""

    class utils:  # noqa: N801 - the name that Triton looks for
        @staticmethod
        def get_device_properties(_device):
            return {"multiprocessor_count": 132, "max_shared_mem": 232448, "warpSize": 32}

    def get_current_target(self):
        return TARGET

    def get_current_device(self):
        return 0

    def get_current_stream(self, _device):
        return 0


compiled = []


def compile_only(kernel, grid):
    def call(*args, **kwargs):
        one = jit.JITFunction.run(kernel, *args, grid=grid, warmup=True, **kwargs)
        compiled.append((f"{kernel.fn.__module__.rpartition('.')[2]}.{kernel.fn.__name__}", one))

    return call


def every_configuration(tuner, *args, grid, warmup=False, **kwargs):
    for config in tuner.configs:
        compile_only(tuner.fn, grid)(*args, **kwargs, **config.all_kwargs())


def resources(kernel):
    """Registers and stack bytes a thread, from the machine code itself."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        tool = [TOOLS / "cuobjdump", "-res-usage", file.name]
        shown = subprocess.run(tool, capture_output=True, text=True, check=True).stdout
    return map(int, re.search(r"REG:(\d+) STACK:(\d+)", shown).groups())


def widest_load(ptx):
    """Bits of the widest load from global memory, into registers or by cp.async."""
    loads = re.findall(r"ld\.global[\w.:]*?(?:\.v(\d))?\.b(\d+)", ptx)
    copies = re.findall(r"cp\.async\.c[ag]\.shared\.global[^;]*\], (0x\w+|\d+)", ptx)
    return max(
        [int(many or 1) * int(bits) for many, bits in loads] + [8 * int(size, 0) for size in copies]
    )


def main():
    driver.set_active(Driver())
    jit.JITFunction.__getitem__ = compile_only
    autotuner.Autotuner.run = every_configuration
    torch.set_grad_enabled(False)
    from warpspan.kernels.bench.ops import load

    generator = torch.Generator().manual_seed(0)
    for name, sizes in SIZES.items():
        for dims in sizes:
            op = load(name)
            compiled.clear()
            op.fused(*op.build(dims, torch.bfloat16, generator))
            for kernel, one in compiled:
                registers, stack = resources(one)
                line = {
                    "kernel": kernel,
                    "dims": dims,
                    "registers": registers,
                    "stack": stack,
                    "shared": one.metadata.shared,
                    "widest_load_bits": widest_load(one.asm["ptx"]),
                }
                print(json.dumps(line))


if __name__ == "__main__":
    main()
