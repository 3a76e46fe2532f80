"""The cost of a replaced method where it records nothing: tensors in host memory.

Also a graph's replay inside an inference, on a stand-in for the graph that does nothing. Methods of
tensors are replaced only once CUDA is initialised; here they are without it.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import torch

import warpspan
from benchmarks.overhead.statistics import rounds
from warpspan import instrumentor
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch import cuda_graph
from warpspan.hooks.torch.module_call import Switch

#: What a call may cost more than torch's own, in nanoseconds.
LIMIT_NS = 100.0

_CALLS = 2000
_WARM_UP_CALLS = 50
_ROUNDS = (7, 50)  # CPython 3.13 stops caching attributes of a class after 1,000 changes to it
_TENSOR_METHODS = ("item", "to", "cpu")
_REPLAY = "CUDAGraph.replay"


class MethodCost(NamedTuple):
    """What a call costs more than torch's own.

    Args:
        method: what is called.
        inside: inside an inference.
        original_ns: time of a call of torch's own.
        added_ns: what comes on top: the median over the rounds of the difference in each.
    """

    method: str
    inside: bool
    original_ns: float
    added_ns: float


class _Graph:
    """Stands for a graph on a machine that has no GPU."""

    def capture_begin(self) -> None: ...

    def capture_end(self) -> None: ...

    def replay(self) -> None: ...


def run(seconds: float) -> list[MethodCost]:
    """Measure each method with and without the replacement, in turns. For a process of its own.

    Raises:
        RuntimeError: warpspan can't be instrumented here.
    """
    torch.set_num_threads(1)
    warpspan.WarpspanInstrumentor().instrument()
    session = instrumentor.active_session()
    if session is None:
        raise RuntimeError("warpspan could not be instrumented")
    session._patch_tensors()
    with mock.patch.object(torch.cuda, "CUDAGraph", _Graph):
        original = dict(vars(_Graph))
        cuda_graph.patch(Patches(), Switch(session.tracker))
    replaced: list[tuple[Any, str, Any, Any]] = [
        (torch.Tensor, name, vars(torch.Tensor)[name], None) for name in _TENSOR_METHODS
    ]
    replaced.append((_Graph, "replay", vars(_Graph)["replay"], original["replay"]))

    def switch(on: bool) -> None:
        for owner, name, ours, theirs in replaced:
            if on or theirs is not None:
                setattr(owner, name, ours if on else theirs)
            else:
                delattr(owner, name)  # torch's own is the base class's

    tensor, graph = torch.ones(1), _Graph()
    calls: dict[tuple[str, bool], Callable[[], Any]] = {
        ("Tensor.item", False): lambda: tensor.item(),
        ("Tensor.item", True): lambda: tensor.item(),
        ("Tensor.to", False): lambda: tensor.to("cpu"),
        ("Tensor.to", True): lambda: tensor.to("cpu"),
        ("Tensor.cpu", False): lambda: tensor.cpu(),
        ("Tensor.cpu", True): lambda: tensor.cpu(),
        (_REPLAY, True): lambda: graph.replay(),
    }
    taken: dict[tuple[str, bool, bool], list[float]] = {
        (*key, on): [] for key in calls for on in (False, True)
    }
    switch(False)
    least, most = _ROUNDS
    for order in rounds((False, True), seconds, at_least=least, at_most=most):
        for on in order:
            if on:
                switch(True)
            for (method, inside), call in calls.items():
                taken[method, inside, on].append(_block(call, inside))
            if on:
                switch(False)
    return [
        MethodCost(
            method,
            inside,
            statistics.median(taken[method, inside, False]),
            statistics.median(
                ours - theirs
                for ours, theirs in zip(
                    taken[method, inside, True], taken[method, inside, False], strict=True
                )
            ),
        )
        for method, inside in calls
    ]


def _block(call: Callable[[], Any], inside: bool) -> float:
    """Nanoseconds a call, inside one inference or none. Opening it is not in them."""
    if not inside:
        return _time(call)
    covered: torch.nn.Module = _Covered(call)
    return float(covered())


class _Covered(torch.nn.Linear):
    """A model whose call is an inference, and does nothing but what is timed."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(1, 1)
        self._timed = call
        self.eval()

    def forward(self) -> float:  # type: ignore[override]
        """Time it."""
        return _time(self._timed)


def _time(call: Callable[[], Any]) -> float:
    for _ in range(_WARM_UP_CALLS):
        call()
    began_ns = time.perf_counter_ns()
    for _ in itertools.repeat(None, _CALLS):
        call()
    return (time.perf_counter_ns() - began_ns) / _CALLS
