"""Copies between host memory and CUDA devices by methods of tensors, and memory that is pinned.

`Module.to`, `Module.cuda` and accelerate's and diffusers' offloading move each tensor by these
methods, so that they are seen without patches of their own.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple, TypeAlias

import torch

from warpspan import guard
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch import tensor_methods
from warpspan.hooks.torch.module_call import Switch
from warpspan.hooks.torch.syncs import waited
from warpspan.hooks.torch.tensor_methods import has_torch_function
from warpspan.probes import clock
from warpspan.probes.clock import Lease
from warpspan.probes.transfers import TIMED_BYTES, Turn, lease_event
from warpspan.records import Direction, SyncCall

# Modules that move weights: what they copy are parameters and buffers, whatever its class is.
_MOVERS = frozenset(
    {
        "accelerate.utils.modeling",
        "diffusers.hooks.group_offloading",
        "torch.nn.modules.module",
    }
)
_CPU = torch.device("cpu")
_H2D, _D2H, _D2D = Direction


class _Move(NamedTuple):
    """A copy that a call is about to make.

    Args:
        direction: from where to where.
        ordinal: the CUDA device whose current stream it runs on.
        source: what is copied.
        target: where to, None where the call makes it.
        asynchronous: `non_blocking` was asked for.
    """

    direction: Direction
    ordinal: int
    source: torch.Tensor
    target: torch.Tensor | None
    asynchronous: bool


# Whether a call on a tensor in host memory has nothing to do with CUDA, told in a few tests.
_Skips = Callable[[torch.Tensor, tuple[Any, ...], dict[str, Any]], bool]
#: A copy that is under way: its turn and plan, whether it moves weights, its start event where it is
#: timed, and its begin by the host's clock.
_Started: TypeAlias = tuple[Turn, _Move, bool, Lease | None, int]
_Plan = Callable[[torch.Tensor, tuple[Any, ...], dict[str, Any]], _Move | None]


def patch_tensors(patches: Patches, switch: Switch) -> None:
    """Replace the methods of tensors that copy between devices, or pin."""
    surfaces_: tuple[tuple[str, SyncCall, _Plan, _Skips | None, bool], ...] = (
        ("to", SyncCall.TO, _plan_to, _stays, True),
        ("cuda", SyncCall.CUDA, _plan_cuda, None, True),
        ("copy_", SyncCall.COPY, _plan_copy, _copies_within, True),
        ("cpu", SyncCall.CPU, _plan_cpu, None, False),
    )
    for name, kind, plan, skips, on_host in surfaces_:
        mover = _moving(
            switch, kind, tensor_methods.original(name), tensor_methods.plain(plan), skips
        )
        tensor_methods.replace(patches, name, mover, on_host=on_host)
    pin = _pinning(switch, tensor_methods.original("pin_memory"))
    tensor_methods.replace(patches, "pin_memory", pin, on_host=True)


def _moving(
    switch: Switch,
    kind: SyncCall,
    original: Callable[..., Any],
    plan: _Plan,
    skips: _Skips | None,
) -> Callable[..., Any]:
    @functools.wraps(original)
    def move(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if skips is not None and not has_torch_function(self) and skips(self, args, kwargs):
            return original(self, *args, **kwargs)
        call = _started(switch, plan, self, args, kwargs)
        if call is None:
            return original(self, *args, **kwargs)
        try:
            result = original(self, *args, **kwargs)
            _ended(call, kind, result)
        finally:
            del call  # a traceback would keep its turn
        return result

    return move


def _started(
    switch: Switch,
    plan: _Plan,
    tensor: torch.Tensor,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> _Started | None:
    """What is known of a copy before it; None for none."""
    try:
        if not tensor_methods.in_order(switch, tensor):
            return None
        planned = plan(tensor, args, kwargs)
        if planned is None or clock.capturing(planned.ordinal):
            return None
    except Exception as refused:  # arguments that torch refuses itself, a device that is not there
        guard.let_through(refused)
        return None
    try:
        weights = _caller() in _MOVERS or isinstance(planned.source, torch.nn.Parameter)
        attribution = switch.tracker.attribution  # type: ignore[union-attr]
        if planned.direction == _D2H:
            turn = attribution.waited_for()
        else:
            turn = attribution.arriving(weights=weights)
        if turn is None:
            return None
        start = lease_event(planned.ordinal) if _long(planned.source) else None
        return turn, planned, weights, start, clock.host_ns()
    except Exception as error:
        guard.caught("transfer", error)
        return None


def _caller() -> str | None:
    """The module whose code called the method, past our own frames."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name: str | None = frame.f_globals.get("__name__")
        if name is None or not name.startswith("warpspan.hooks."):
            return name
        frame = frame.f_back
    return None


def _ended(call: _Started, kind: SyncCall, result: torch.Tensor) -> None:
    turn, planned, weights, start, began_ns = call
    counters = turn.counters
    try:
        nbytes, pageable = _crossed(planned, result)
        # From pageable memory the driver copies by way of its own, and the caller waits for it.
        if planned.direction != _D2D and (pageable or not planned.asynchronous):
            waited(counters, kind, began_ns)
        events = None if start is None else (start, lease_event(planned.ordinal))
        counters.copy(planned.direction, nbytes, pageable=pageable, weights=weights, events=events)
    except Exception as error:
        guard.caught("transfer", error)


def _stays(tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    first = args[0] if args else kwargs.get("device", kwargs.get("other"))
    kind = type(first)
    if kind is torch.dtype or first is None:
        return True
    if kind is torch.device:
        return first == _CPU and not tensor.is_cuda
    return kind is str and first == "cpu" and not tensor.is_cuda


def _copies_within(tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:  # noqa: ARG001
    return bool(args) and type(args[0]) is torch.Tensor and not (tensor.is_cuda or args[0].is_cuda)


def _plan_to(tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Move | None:
    first = args[0] if args else kwargs.get("device", kwargs.get("other"))
    if first is None or isinstance(first, torch.dtype):
        return None
    where: torch.device | None
    if isinstance(first, torch.Tensor):
        where, rest = first.device, args[1:]
    else:
        where, rest = _device(first), args[2:]  # a dtype stands between
    asynchronous = kwargs.get("non_blocking", rest[0] if rest else False)
    return _planned(tensor, where, bool(asynchronous))


def _plan_cuda(tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Move | None:
    where = args[0] if args else kwargs.get("device")
    asynchronous = kwargs.get("non_blocking", args[1] if len(args) > 1 else False)
    return _planned(tensor, _device("cuda" if where is None else where), bool(asynchronous))


def _plan_cpu(
    tensor: torch.Tensor,
    args: tuple[Any, ...],  # noqa: ARG001 - a memory format
    kwargs: dict[str, Any],  # noqa: ARG001
) -> _Move | None:
    return _planned(tensor, _CPU, asynchronous=False)


def _plan_copy(tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Move | None:
    source = args[0] if args else kwargs.get("src", kwargs.get("other"))
    if not isinstance(source, torch.Tensor) or not (tensor.is_cuda or source.is_cuda):
        return None
    asynchronous = kwargs.get("non_blocking", args[1] if len(args) > 1 else False)
    return _planned(source, tensor.device, bool(asynchronous), tensor)


def _device(what: Any) -> torch.device | None:
    """The device that an argument means; None where it means none, as torch itself will say."""
    try:
        device = torch.device(what)
    except (RuntimeError, TypeError) as refused:
        guard.let_through(refused)
        return None
    exists = device.type != "cuda" or (device.index or 0) < torch.cuda.device_count()
    return device if exists else None


def _planned(
    source: torch.Tensor,
    where: torch.device | None,
    asynchronous: bool,
    target: torch.Tensor | None = None,
) -> _Move | None:
    """The copy of a tensor to a device; None where CUDA has no part in it, or nothing is copied."""
    if where is None or not torch.cuda.is_initialized():  # it never is in a forked child
        return None
    if where.type == "cuda":
        index = torch.cuda.current_device() if where.index is None else where.index
        if not source.is_cuda:
            direction, ordinal = _H2D, index
        elif source.get_device() != index:
            direction, ordinal = _D2D, source.get_device()
        else:
            return None
    elif source.is_cuda and where.type == "cpu":
        direction, ordinal = _D2H, source.get_device()
    else:
        return None
    if source.device.type not in ("cpu", "cuda") or source.layout is not torch.strided:
        return None
    if not (source if target is None else target).numel():
        return None
    return _Move(direction, ordinal, source, target, asynchronous)


@tensor_methods.plain
def _long(source: torch.Tensor) -> bool:
    return source.numel() * source.element_size() >= TIMED_BYTES


@tensor_methods.plain
def _crossed(move: _Move, result: torch.Tensor) -> tuple[int, bool]:
    """Bytes that crossed the bus, and whether the host's side was pageable.

    Where the two have different types, torch converts on the host in a blocking copy and on the
    device in an asynchronous one (aten/src/ATen/native/cuda/Copy.cu), and between devices on the
    first one.
    """
    source, target = move.source, result if move.target is None else move.target
    if move.direction == _D2D:
        return target.numel() * target.element_size(), False
    to_device = move.direction == _H2D
    on_host, on_device = (source, target) if to_device else (target, source)
    crossing = on_host if move.asynchronous else on_device
    converted = source.dtype != target.dtype and not move.asynchronous
    pinned = not converted and on_host.is_pinned() and _dense(on_host)
    return target.numel() * crossing.element_size(), not pinned


def _dense(tensor: torch.Tensor) -> bool:
    """Whether it is copied as it lies, and not by way of a contiguous copy in pageable memory."""
    return tensor.is_contiguous() or (
        tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    )


def _pinning(switch: Switch, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def pin_memory(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        began_ns = clock.host_ns()
        pinned = original(self, *args, **kwargs)
        if pinned is not self:
            _count_pinned(switch, pinned, clock.host_ns() - began_ns)
        return pinned

    return pin_memory


def _count_pinned(switch: Switch, pinned: torch.Tensor, spent_ns: int) -> None:
    try:
        if not tensor_methods.in_order(switch, pinned):
            return
        turn = switch.tracker.attribution.arriving(weights=False)  # type: ignore[union-attr]
        if turn is not None:
            turn.counters.pin(_nbytes(pinned), spent_ns)
    except Exception as error:
        guard.caught("transfer", error)


@tensor_methods.plain
def _nbytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
