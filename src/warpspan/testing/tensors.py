"""Tensors of a scripted device: real values in host memory, a CUDA device to whoever asks.

A tensor subclass gets every operator, runs it on the values in host memory, and accounts for what
a GPU would have done. It works in all threads, without a mode that would cost every operator of the
program, and `torch.overrides.has_torch_function` does not see it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._mode_utils import no_dispatch

from warpspan.testing.allocator import Allocation
from warpspan.testing.machine import Machine, active, device_index

aten = torch.ops.aten
_CPU = torch.device("cpu")
# The tensor's own storage is empty; its nominal size only must never be too small for a view.
_BOUNDLESS = 1 << 62


class ScriptedTensor(torch.Tensor):
    """A tensor of a scripted device.

    Args:
        values: the same tensor in host memory.
        block: the device memory of its storage, shared by all its views.
        machine: the devices it belongs to.
    """

    _host: torch.Tensor
    _block: Allocation
    _machine: Machine

    # Nobody else's, so that torch and warpspan take it for an ordinary tensor.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(  # noqa: PYI034 - it is never subclassed
        cls: type[ScriptedTensor], values: torch.Tensor, block: Allocation, machine: Machine
    ) -> ScriptedTensor:
        """Make the shell that stands for the values."""
        tensor: ScriptedTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=torch.device("cuda", block.device_index),
            storage_size=_BOUNDLESS,
        )
        tensor._host, tensor._block, tensor._machine = values, block, machine
        return tensor

    def __init__(self, *_: object) -> None:
        super().__init__()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> ScriptedTensor:
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        for name in vars(self).keys() - vars(copy).keys():  # a Parameter is one by an attribute
            setattr(copy, name, getattr(self, name))
        memo[id(self)] = copy
        return copy  # type: ignore[return-value]

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"{repr(self._host)[:-1]}, device='{self.device}')"

    def data_ptr(self) -> int:
        """Where the values are: as for a real tensor, it tells two tensors apart."""
        return self._host.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        """The storage of the values, in host memory: its address and size tell views apart."""
        return self._host.untyped_storage()


def wrap(machine: Machine, values: torch.Tensor, index: int) -> ScriptedTensor:
    """Put values on a device: a view of known memory, or new memory."""
    storage = values.untyped_storage()
    block = machine.blocks.get(storage._cdata)
    if block is None:
        block = machine.blocks[storage._cdata] = machine.allocate(index, storage.nbytes())
    return ScriptedTensor(values, block, machine)


def replace_data(tensor: torch.Tensor, other: torch.Tensor) -> None:
    """`tensor.data = other` between the host and a device: the same object, other memory."""
    shell = other.detach()
    if isinstance(tensor, torch.nn.Parameter):
        shell = torch.nn.Parameter(shell, tensor.requires_grad)
    for name in ("__class__", "__dict__"):
        value = getattr(tensor, name)
        setattr(tensor, name, getattr(shell, name))
        setattr(shell, name, value)
    torch._C._swap_tensor_impl(tensor, shell)


def _refresh(tensor: ScriptedTensor) -> None:
    """Follow what an operator that writes may have changed: shape, and size of the storage."""
    values = tensor._host
    layout = values.size(), values.stride(), values.storage_offset()
    if layout != (tensor.size(), tensor.stride(), tensor.storage_offset()):
        with no_dispatch():
            tensor.as_strided_(*layout)
    tensor._block.resize(values.untyped_storage().nbytes())


def _values_of(machine: Machine, tree: Any) -> Any:
    def values(tensor: ScriptedTensor) -> torch.Tensor:
        if tensor._machine is not machine:
            raise RuntimeError("This tensor is on a ScriptedDevice that was left")
        return tensor._host

    return pytree.tree_map_only(ScriptedTensor, values, tree)


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # In inference mode composite operators arrive whole; a device runs what they are made of.
    result = func.decompose(*args, **kwargs)
    if result is not NotImplemented:
        return result
    machine = active()
    special = _SPECIAL.get(func)
    if special is not None:
        return special(machine, *args, **kwargs)
    return _run_on_values(machine, func, args, kwargs)


def _run_on_values(
    machine: Machine, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    leaves = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [leaf for leaf in leaves if isinstance(leaf, ScriptedTensor)]
    index = _common_device(machine, func, leaves)
    host_args, host_kwargs = _values_of(machine, (args, kwargs))
    target = kwargs.get("device")
    if target is not None:
        host_kwargs["device"] = _CPU
    results = _ON_HOST.get(func, func)(*host_args, **host_kwargs)
    if target is not None:
        if target.type == "cpu":
            return results
        index = device_index(target, machine)

    kernel = _is_kernel(machine, func, results)
    if func._schema.is_mutable:
        for tensor in ours:
            _refresh(tensor)
    known = {id(tensor._host): tensor for tensor in ours}

    def device_result(values: torch.Tensor) -> ScriptedTensor:
        written = known.get(id(values))
        return wrap(machine, values, index) if written is None else written

    wrapped = pytree.tree_map_only(torch.Tensor, device_result, results)
    lane = machine.lane(index)
    if kernel:
        machine.launch(lane, func, args)
        if lane.capture is not None:
            lane.capture.work.append(
                functools.partial(_repeat, func, host_args, host_kwargs, results)
            )
    if _synchronizes(func, args):
        machine.wait(str(func), [machine.mark(lane)])
    return wrapped


# Operators that take indices from the CPU too, and copy them.
_INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
_EMPTY = {aten.empty_like, aten.new_empty, aten.new_empty_strided, aten.resize_, aten.set_}


def _common_device(machine: Machine, func: Any, tensors: list[torch.Tensor]) -> int:
    indices = {t._block.device_index for t in tensors if isinstance(t, ScriptedTensor)}
    index = min(indices)
    strangers = [t for t in tensors if not isinstance(t, ScriptedTensor) and t.dim()]
    if func.overloadpacket in _INDEXING and len(indices) == 1:
        for tensor in strangers:
            _copy_in(machine, index, tensor, tensor.nbytes, non_blocking=False)
        return index
    names = [f"cuda:{i}" for i in sorted(indices)] + ["cpu"] * bool(strangers)
    if len(names) > 1:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{names[0]} and {names[1]}!"
        )
    return index


def _is_kernel(machine: Machine, func: Any, results: Any) -> bool:
    if func.overloadpacket in _EMPTY or torch.Tag.inplace_view in func.tags:
        return False
    if func._schema.is_mutable:
        return True
    tensors = [leaf for leaf in pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]
    return not tensors or any(t.untyped_storage()._cdata not in machine.blocks for t in tensors)


def _synchronizes(func: Any, args: tuple[Any, ...]) -> bool:
    if func.overloadpacket in _INDEXING:  # a mask becomes indices, whose number must be known
        return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
    tags = torch.Tag
    return tags.data_dependent_output in func.tags or tags.dynamic_output_shape in func.tags


def _repeat(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], results: Any) -> None:
    """Compute an operator of a captured graph again, into the tensors that it gave then."""
    again = _ON_HOST.get(func, func)(*args, **kwargs)
    for old, new in zip(pytree.tree_leaves(results), pytree.tree_leaves(again), strict=True):
        if isinstance(old, torch.Tensor) and old is not new:
            old.copy_(new)


def _copy_in(
    machine: Machine, index: int, source: torch.Tensor, nbytes: int, *, non_blocking: bool
) -> None:
    costs, pinned = machine.costs, machine.is_pinned(source)
    machine.copy(
        "memcpy HtoD",
        machine.lane(index),
        nbytes,
        costs.h2d_bytes_per_s if pinned else costs.h2d_pageable_bytes_per_s,
        pageable=not pinned,
        blocking=not (non_blocking and pinned),
    )


def _copy_out(
    machine: Machine, index: int, target: torch.Tensor | None, nbytes: int, *, non_blocking: bool
) -> None:
    costs, pinned = machine.costs, target is not None and machine.is_pinned(target)
    machine.copy(
        "memcpy DtoH",
        machine.lane(index),
        nbytes,
        costs.d2h_bytes_per_s if pinned else costs.d2h_pageable_bytes_per_s,
        pageable=not pinned,
        blocking=not (non_blocking and pinned),
    )


def _copy_across(machine: Machine, source: int, target: int, nbytes: int) -> None:
    lane = machine.lane(source)
    machine.copy(
        "memcpy DtoD", lane, nbytes, machine.costs.d2d_bytes_per_s, pageable=False, blocking=False
    )
    machine.hold(machine.lane(target), machine.mark(lane))


def _copy(
    machine: Machine, target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False
) -> torch.Tensor:
    to_device = isinstance(target, ScriptedTensor)
    from_device = isinstance(source, ScriptedTensor)
    to_index = target._block.device_index if isinstance(target, ScriptedTensor) else -1
    from_index = source._block.device_index if isinstance(source, ScriptedTensor) else -1
    if to_index == from_index:
        return _run_on_values(machine, aten.copy_.default, (target, source), {})  # type: ignore[no-any-return]
    host_target, host_source = _values_of(machine, (target, source))
    work = functools.partial(host_target.copy_, host_source)
    work()
    nbytes = target.nbytes
    if not from_device:
        _copy_in(machine, to_index, host_source, nbytes, non_blocking=non_blocking)
    elif not to_device:
        _copy_out(machine, from_index, host_target, nbytes, non_blocking=non_blocking)
    else:
        _copy_across(machine, from_index, to_index, nbytes)
    capture = machine.lane(to_index if to_device else from_index).capture
    if capture is not None:
        capture.work.append(work)
    return target


def _to_copy(
    machine: Machine,
    tensor: ScriptedTensor,
    *,
    dtype: torch.dtype | None = None,
    layout: torch.layout | None = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    non_blocking: bool = False,
    memory_format: torch.memory_format | None = None,
) -> torch.Tensor:
    index = tensor._block.device_index
    options = {"dtype": dtype, "layout": layout, "memory_format": memory_format}
    if device is None or (device.type == "cuda" and device_index(device, machine) == index):
        return _run_on_values(machine, aten._to_copy.default, (tensor,), options)  # type: ignore[no-any-return]
    values = aten._to_copy.default(_values_of(machine, tensor), device=_CPU, **options)
    if device.type == "cpu":
        if non_blocking or pin_memory:  # torch then takes pinned memory by itself
            machine.pin(values)
        _copy_out(machine, index, values, values.nbytes, non_blocking=non_blocking)
        return values  # type: ignore[no-any-return]
    target = device_index(device, machine)
    result = wrap(machine, values, target)
    _copy_across(machine, index, target, values.nbytes)
    return result


def _read_scalar(machine: Machine, tensor: ScriptedTensor) -> Any:
    value = aten._local_scalar_dense.default(_values_of(machine, tensor))
    _copy_out(machine, tensor._block.device_index, None, tensor.element_size(), non_blocking=False)
    return value


_SPECIAL: dict[Any, Callable[..., Any]] = {
    aten._to_copy.default: _to_copy,
    aten.copy_.default: _copy,
    aten._local_scalar_dense.default: _read_scalar,
    aten.is_pinned.default: lambda *_: False,
    aten.record_stream.default: lambda *_: None,
}


def _softmax(
    function: Callable[..., torch.Tensor], values: torch.Tensor, dim: int, half_to_float: bool
) -> torch.Tensor:
    return function(values.float() if half_to_float else values, dim)


def _lstm_cell(
    input_gates: torch.Tensor,
    hidden_gates: torch.Tensor,
    cell: torch.Tensor,
    input_bias: torch.Tensor | None = None,
    hidden_bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    gates = input_gates + hidden_gates
    if input_bias is not None and hidden_bias is not None:
        gates = gates + input_bias + hidden_bias
    enter, forget, candidate, leave = gates.chunk(4, 1)
    cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
    return leave.sigmoid() * cell.tanh(), cell, gates


def _gru_cell(
    input_gates: torch.Tensor,
    hidden_gates: torch.Tensor,
    hidden: torch.Tensor,
    input_bias: torch.Tensor | None = None,
    hidden_bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    if input_bias is not None and hidden_bias is not None:
        input_gates, hidden_gates = input_gates + input_bias, hidden_gates + hidden_bias
    reset_in, update_in, new_in = input_gates.chunk(3, 1)
    reset_hidden, update_hidden, new_hidden = hidden_gates.chunk(3, 1)
    new = (new_in + (reset_in + reset_hidden).sigmoid() * new_hidden).tanh()
    return new + (update_in + update_hidden).sigmoid() * (hidden - new), input_gates


# What CUDA has and the CPU has not.
_ON_HOST: dict[Any, Callable[..., Any]] = {
    aten._softmax.default: functools.partial(_softmax, torch.softmax),
    aten._log_softmax.default: functools.partial(_softmax, torch.log_softmax),
    aten._thnn_fused_lstm_cell.default: _lstm_cell,
    aten._thnn_fused_gru_cell.default: _gru_cell,
}
