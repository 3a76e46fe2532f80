"""Calls in which the host waits for a CUDA device: how long, and for which inference.

The functions are replaced where Python meets C++, so that names which a program imported before
are seen as well.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable
from typing import Any

import torch

from warpspan import guard
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch import tensor_methods
from warpspan.hooks.torch.dynamo import leave_out
from warpspan.hooks.torch.module_call import Switch
from warpspan.probes import clock
from warpspan.probes.transfers import SyncCopyCounters, call_site
from warpspan.records import Direction, SyncCall

# What is read of a tensor: its one element, all of it, or what isn't known from outside.
_ELEMENT, _ALL, _UNKNOWN = range(3)
# Looked up once: a member of an enum costs Python 3.10 and 3.11 more than a global.
_CONTAINS, _D2H = SyncCall.CONTAINS, Direction.D2H

_READERS = (
    ("item", SyncCall.ITEM, _ELEMENT),
    ("__bool__", SyncCall.BOOL, _ELEMENT),
    ("__int__", SyncCall.INT, _ELEMENT),
    ("__float__", SyncCall.FLOAT, _ELEMENT),
    ("__index__", SyncCall.INDEX, _ELEMENT),
    ("tolist", SyncCall.TOLIST, _ALL),
    ("numpy", SyncCall.NUMPY, _ALL),
    ("nonzero", SyncCall.NONZERO, _UNKNOWN),
)


def patch(patches: Patches, switch: Switch) -> None:
    """Replace the functions that wait for a device, a stream or an event."""
    for owner, name, kind in (
        (torch._C, "_cuda_synchronize", SyncCall.SYNCHRONIZE),
        (torch._C, "_accelerator_synchronizeDevice", SyncCall.SYNCHRONIZE),
        (torch.cuda.Stream, "synchronize", SyncCall.STREAM),
        (torch.cuda.Event, "synchronize", SyncCall.EVENT),
    ):
        function = getattr(owner, name, None)
        if function is not None:  # a build without CUDA, or an older torch, lacks some
            patches.apply(owner, name, leave_out(_waiting(switch, kind, function)))


def patch_tensors(patches: Patches, switch: Switch) -> None:
    """Replace the methods of tensors that read values on the host."""
    for name, kind, reads in _READERS:
        reader = _reading(switch, kind, tensor_methods.original(name), reads)
        tensor_methods.replace(patches, name, reader, on_host=False)
    contains = _containing(switch, tensor_methods.original("__contains__"))
    tensor_methods.replace(patches, "__contains__", contains, on_host=False)


def waited(counters: SyncCopyCounters, kind: SyncCall, began_ns: int) -> None:
    """Count a wait that ended now, called by the function that the user called."""
    stalled_ns = clock.host_ns() - began_ns
    site = None
    if counters.wants_site(kind, stalled_ns):
        site = call_site(sys._getframe(1))
    counters.wait(kind, stalled_ns, site)


def _waiting(switch: Switch, kind: SyncCall, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wait(*args: Any, **kwargs: Any) -> Any:
        turn = tensor_methods.started(switch)
        if turn is None:
            return original(*args, **kwargs)
        began_ns = clock.host_ns()
        try:
            result = original(*args, **kwargs)
            _count(turn.counters, kind, began_ns)
        finally:
            del turn  # a traceback would keep it
        return result

    return wait


def _count(counters: SyncCopyCounters, kind: SyncCall, began_ns: int) -> None:
    try:
        waited(counters, kind, began_ns)
    except Exception as error:
        guard.caught("synchronization", error)


def _reading(
    switch: Switch, kind: SyncCall, original: Callable[..., Any], reads: int
) -> Callable[..., Any]:
    @functools.wraps(original)
    def read(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        turn = tensor_methods.started(switch, self)
        if turn is None:
            return original(self, *args, **kwargs)
        began_ns = clock.host_ns()
        try:
            result = original(self, *args, **kwargs)
            _count_read(turn.counters, kind, began_ns, self, reads)
        finally:
            del turn  # a traceback would keep it
        return result

    return read


def _count_read(
    counters: SyncCopyCounters, kind: SyncCall, began_ns: int, tensor: torch.Tensor, reads: int
) -> None:
    try:
        waited(counters, kind, began_ns)
        if reads == _UNKNOWN:
            return
        element_bytes, elements = _size(tensor)
        if reads == _ELEMENT:  # torch copies it to pinned memory of its own
            counters.copy(_D2H, element_bytes)
        elif elements:
            counters.copy(_D2H, element_bytes * elements, pageable=True)
    except Exception as error:
        guard.caught("synchronization", error)


@tensor_methods.plain
def _size(tensor: torch.Tensor) -> tuple[int, int]:
    return tensor.element_size(), tensor.numel()


def _containing(switch: Switch, original: Callable[..., bool]) -> Callable[..., bool]:
    """Torch's own is made of other methods, which are not counted once more."""

    @functools.wraps(original)
    def contains(self: torch.Tensor, element: Any, /) -> bool:
        turn = tensor_methods.started(switch, self)
        if turn is None:
            return original(self, element)
        began_ns = clock.host_ns()
        try:
            tensor_methods.inside.set(weakref.ref(turn))
            found = original(self, element)
            _count(turn.counters, _CONTAINS, began_ns)
            turn.counters.copy(_D2H, 1)
        finally:
            del turn  # nothing is inside it any more
        return found

    return contains
