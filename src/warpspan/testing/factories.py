"""How tensors come to a scripted device: CUDA's allocating kernels, pinned memory, and Python."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._device import DeviceContext

from warpspan.testing.machine import Machine, active, device_index
from warpspan.testing.tensors import ScriptedTensor, replace_data, wrap

Patch = tuple[Any, str, Any]


@contextmanager
def kernels() -> Iterator[None]:
    """Register the kernels that every way of making a CUDA tensor, or a pinned one, ends in."""
    library = torch.library.Library("aten", "IMPL")
    try:
        with warnings.catch_warnings():
            # On a build with CUDA they take the place of the real ones, and torch says so.
            warnings.simplefilter("ignore")
            library.impl("empty.memory_format", _empty, "CUDA")
            library.impl("empty_strided", _empty_strided, "CUDA")
            for name, function in (
                ("tril_indices", torch.tril_indices),
                ("triu_indices", torch.triu_indices),
            ):
                library.impl(name, functools.partial(_indices, function), "CUDA")
            for key in ("CPU", "CUDA"):  # torch asks the one or the other, by version
                library.impl("is_pinned", _is_pinned, key)
                library.impl("_pin_memory", _pin_memory, key)
        yield
    finally:
        library._destroy()


def _empty(
    size: Any,
    *,
    dtype: torch.dtype | None = None,
    layout: torch.layout | None = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,  # noqa: ARG001 - for host tensors only
    memory_format: torch.memory_format | None = None,
) -> torch.Tensor:
    options: dict[str, Any] = {"dtype": dtype, "layout": layout or torch.strided}
    if memory_format is not None:
        options["memory_format"] = memory_format
    return _allocate(device, lambda where: torch.empty(size, device=where, **options))


def _empty_strided(
    size: Any,
    stride: Any,
    *,
    dtype: torch.dtype | None = None,
    layout: torch.layout | None = None,  # noqa: ARG001 - strides are of the strided one
    device: torch.device | None = None,
    pin_memory: bool | None = None,  # noqa: ARG001 - for host tensors only
) -> torch.Tensor:
    return _allocate(
        device, lambda where: torch.empty_strided(size, stride, dtype=dtype, device=where)
    )


def _indices(
    function: Callable[..., torch.Tensor],
    row: int,
    col: int,
    offset: int = 0,
    *,
    dtype: torch.dtype | None = None,
    layout: torch.layout | None = None,  # noqa: ARG001 - strided is the only one
    device: torch.device | None = None,
    pin_memory: bool | None = None,  # noqa: ARG001 - for host tensors only
) -> torch.Tensor:
    values = function(row, col, offset, dtype=dtype or torch.int64, device="cpu")
    machine = active()
    return wrap(machine, values, device_index(device, machine))


def _allocate(device: Any, make: Callable[[str], torch.Tensor]) -> ScriptedTensor:
    machine = active()
    torch.cuda._lazy_init()
    # The device's memory first: what it has no room for must not be tried on the host.
    nbytes = make("meta").untyped_storage().nbytes()
    block = machine.allocate(device_index(device, machine), nbytes)
    values = make("cpu")
    machine.blocks[values.untyped_storage()._cdata] = block
    return ScriptedTensor(values, block, machine)


def _is_pinned(tensor: torch.Tensor, device: torch.device | None = None) -> bool:  # noqa: ARG001
    return not isinstance(tensor, ScriptedTensor) and active().is_pinned(tensor)


def _pin_memory(
    tensor: torch.Tensor,
    device: torch.device | None = None,  # noqa: ARG001 - one host has one memory
) -> torch.Tensor:
    pinned = tensor.clone(memory_format=torch.contiguous_format)
    active().pin(pinned)
    return pinned


def tensor_patches(machine: Machine) -> list[Patch]:
    """Owner, name and replacement of the Python functions that C++ would answer too early.

    torch asks the driver what `cuda` without an index means, before any kernel runs, makes
    tensors of Python values below all dispatch, and refuses some questions to any subclass.
    """
    method = torch.Tensor
    to, cuda, tolist, numpy = method.to, method.cuda, method.tolist, method.numpy

    def with_index(device: Any) -> Any:
        if isinstance(device, (str, torch.device)):
            device = torch.device(device)
            if device.type == "cuda" and device.index is None:
                return torch.device("cuda", machine.device)
        return device

    @functools.wraps(to)
    def indexed_to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args:
            args = (with_index(args[0]), *args[1:])
        if "device" in kwargs:
            kwargs["device"] = with_index(kwargs["device"])
        return to(self, *args, **kwargs)

    @functools.wraps(cuda)
    def indexed_cuda(self: torch.Tensor, device: Any = None, *args: Any, **kwargs: Any) -> Any:
        return cuda(self, torch.device("cuda", device_index(device, machine)), *args, **kwargs)

    @functools.wraps(tolist)
    def copied_tolist(self: torch.Tensor) -> Any:
        if isinstance(self, ScriptedTensor):
            return tolist(to(self.detach(), "cpu"))
        return tolist(self)

    @functools.wraps(numpy)
    def refused_numpy(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(self, ScriptedTensor):
            raise TypeError(
                f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to "
                "copy the tensor to host memory first."
            )
        return numpy(self, *args, **kwargs)

    return [
        (method, "to", indexed_to),
        (method, "cuda", indexed_cuda),
        (method, "tolist", copied_tolist),
        (method, "numpy", refused_numpy),
        (torch, "tensor", _made_on_host(torch.tensor, with_index)),
        (torch, "as_tensor", _made_on_host(torch.as_tensor, with_index)),
        (method, "data", property(_get_data, _set_data)),
    ]


def _made_on_host(
    function: Callable[..., torch.Tensor], with_index: Callable[[Any], Any]
) -> Callable[..., torch.Tensor]:
    @functools.wraps(function)
    def make(data: Any, *, device: Any = None, requires_grad: bool = False, **kwargs: Any) -> Any:
        on_host = not isinstance(data, torch.Tensor)
        target = torch.device(device) if device is not None else on_host and _default_device()
        if not target or target.type != "cuda":
            if requires_grad:
                kwargs["requires_grad"] = True
            return function(data, device=device, **kwargs)
        made = function(data, device="cpu" if on_host else None, **kwargs).to(with_index(target))
        return made.requires_grad_() if requires_grad else made

    return make


def _default_device() -> torch.device | None:
    for mode in reversed(torch.overrides._get_current_function_mode_stack()):
        if isinstance(mode, DeviceContext):
            return mode.device
    return None


_host_data = torch._C.TensorBase.data


def _get_data(tensor: torch.Tensor) -> torch.Tensor:
    return _host_data.__get__(tensor)  # type: ignore[attr-defined,no-any-return]


def _set_data(tensor: torch.Tensor, other: torch.Tensor) -> None:
    if isinstance(tensor, ScriptedTensor) or isinstance(other, ScriptedTensor):
        replace_data(tensor, other)
    else:
        _host_data.__set__(tensor, other)  # type: ignore[attr-defined]
