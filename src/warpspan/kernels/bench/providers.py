"""Who can compute an operation: eager, torch's own entries, compilers, our kernels, libraries."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch

from warpspan.kernels.bench.op import Arguments, Function, Op, Unavailable

NAMES = (
    "eager",
    "eager-native",
    "compile",
    "compile-max-autotune",
    "triton",
    "liger",
    "flashinfer",
    "tensorrt",
)

# Library providers: the module to look for and the package that brings it.
_PACKAGES = {
    "liger": ("liger_kernel", "liger-kernel"),
    "flashinfer": ("flashinfer", "flashinfer-python"),
    "tensorrt": ("torch_tensorrt", "torch-tensorrt"),
}


def prepare(op: Op, provider: str) -> tuple[Function, Callable[[Arguments], Arguments]]:
    """A provider's function, and how it wants our arguments.

    Raises:
        Unavailable: it can't run this operation here.
    """
    if provider in _PACKAGES:
        module, package = _PACKAGES[provider]
        if importlib.util.find_spec(module) is None:
            raise Unavailable(f"not installed: pip install {package}")
    eager = op.eager or op.reference
    if provider == "triton":
        return op.fused, _as_given
    if provider == "eager":
        return eager, op.eager_arguments
    if provider == "compile":
        return _compiled(eager), op.eager_arguments
    if provider == "compile-max-autotune":
        # Graphs are the harness's own: capturing one in another fails.
        return _compiled(eager, mode="max-autotune-no-cudagraphs"), op.eager_arguments
    if provider == "tensorrt":
        importlib.import_module("torch_tensorrt")  # registers its backend with torch.compile
        return _compiled(eager, backend="tensorrt"), op.eager_arguments
    try:
        return op.providers[provider](), _as_given
    except KeyError:
        raise Unavailable(f"{provider} has no {op.name}") from None
    except ImportError as error:
        raise Unavailable(f"can't be imported: {error}") from None


def _compiled(function: Function, **options: str) -> Function:
    # One shape at a time, as a static graph: what a server with warmed-up shapes runs.
    return torch.compile(  # type: ignore[call-overload,no-any-return]
        function, fullgraph=True, dynamic=False, **options
    )


def _as_given(arguments: Arguments) -> Arguments:
    return arguments
