"""Random programs, run for real: what each inference did, as only the device and the host know it.

A program is data: hypothesis makes it, `run` does it on the virtual GPU, and each inference leaves
a `Truth` made of the device's own timeline and of clocks read around the calls. Nothing here asks
warpspan anything.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import nn

from virtual_gpu import Kind

MIB = 1 << 20
# What a wait of the program is called on a span, and the entry points in which it waits.
WAITS = {
    "item": lambda x: x[0].item(),
    "cpu": lambda x: x.cpu(),
    "tolist": lambda x: x[:4].tolist(),
    "synchronize": lambda x: torch.cuda.synchronize(x.device),
    "stream": lambda x: torch.cuda.current_stream(x.device).synchronize(),
}


class Kernels(NamedTuple):
    """Kernels on the current stream, or on another that is joined at the end or not at all."""

    count: int
    seconds: float
    where: str = "current"


class Copy(NamedTuple):
    """A copy of so many KiB from or to the host."""

    way: str
    kib: int
    pinned: bool


class Allocate(NamedTuple):
    """A tensor that lives until the inference ends, or only for a moment."""

    mib: int
    kept: bool


class WaitFor(NamedTuple):
    """A wait of the host."""

    kind: str


class Replay(NamedTuple):
    """A graph of so many kernels."""

    kernels: int


class Nested(NamedTuple):
    """A module called inside."""

    steps: tuple


class TooMuch(NamedTuple):
    """An allocation that can't be had; the program goes on."""


class Run(NamedTuple):
    """An inference, and how long the host does something else after it."""

    steps: tuple
    pause_s: float
    device: int
    own_stream: bool  # and not the default one


STEPS = st.one_of(
    st.builds(
        Kernels,
        st.integers(1, 3),
        st.sampled_from([2e-3, 7e-3]),
        st.sampled_from(["current", "current", "joined", "alone"]),
    ),
    st.builds(Copy, st.sampled_from(["h2d", "d2h"]), st.integers(1, 300), st.booleans()),
    st.builds(Allocate, st.integers(1, 64), st.booleans()),
    st.builds(WaitFor, st.sampled_from(sorted(WAITS))),
    st.builds(Replay, st.integers(1, 3)),
    st.builds(TooMuch),
)
BODIES = st.lists(
    st.one_of(STEPS, STEPS, st.builds(Nested, st.lists(STEPS, max_size=2).map(tuple))),
    min_size=1,
    max_size=4,
).map(tuple)
PROGRAMS = st.lists(
    st.builds(
        Run,
        BODIES,
        st.sampled_from([0.0, 0.0, 12e-3]),
        st.sampled_from([0, 0, 1]),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


class Truth(NamedTuple):
    """What an inference did."""

    device: int
    first: int  # lines of the timeline that it enqueued: from this one
    last: int  # up to this one
    streams: set  # the current one, and the other where it was joined
    host_begin_ns: int  # clocks read before and after its call
    host_end_ns: int
    tail_ns: int  # when its stream was free before it
    peak_bytes: int  # as torch's allocator counts
    waited_s: dict  # seconds around the calls that wait, by kind
    waits: Counter


class Program(nn.Module):
    """A model whose forward pass is a list of steps."""

    def __init__(self, gpu, device):
        super().__init__()
        self.gpu, self.device = gpu, torch.device("cuda", device)
        self.weight = nn.Parameter(torch.ones(64, device=self.device))
        self.source = torch.ones(300 * 256, device=self.device)
        self.host = {pinned: torch.ones(300 * 256, pin_memory=pinned) for pinned in (False, True)}
        self.side, self.own = (torch.cuda.Stream(self.device) for _ in range(2))
        self.inner = Inner(self)
        self.graphs = {}

    def graph(self, kernels):
        """A graph of so many kernels, captured before anything is measured."""
        if kernels not in self.graphs:
            self.graphs[kernels] = made = torch.cuda.CUDAGraph()
            stream = torch.cuda.Stream(self.device)  # the default one is of one device for all
            with torch.cuda.device(self.device), torch.cuda.graph(made, stream=stream):
                for _ in range(kernels):
                    self.weight.detach() * 2
        return self.graphs[kernels]

    def forward(self, steps):
        self.kept, self.waited_s, self.waits, self.joins = [], Counter(), Counter(), False
        self.peak = torch.cuda.memory_allocated(self.device)
        for step in steps:
            self.step(step)
        if self.joins:
            torch.cuda.current_stream(self.device).wait_stream(self.side)
        self.kept.clear()
        return self.weight

    def grown(self):
        self.peak = max(self.peak, torch.cuda.memory_allocated(self.device))

    def step(self, step):
        stream = torch.cuda.current_stream(self.device)
        if isinstance(step, Kernels):
            if step.where != "current":
                self.side.wait_stream(stream)
                stream = self.side
            with torch.cuda.device(self.device):
                for _ in range(step.count):
                    self.gpu.launch("step", step.seconds, stream.cuda_stream)
            self.joins |= step.where == "joined"
        elif isinstance(step, Copy):
            host, device = self.host[step.pinned][: step.kib * 256], self.source[: step.kib * 256]
            target, source = (device, host) if step.way == "h2d" else (host, device)
            if step.pinned:
                target.copy_(source, non_blocking=True)
            else:
                self.wait("copy", lambda: target.copy_(source))
        elif isinstance(step, Allocate):
            made = torch.empty(step.mib * MIB, dtype=torch.uint8, device=self.device)
            self.grown()
            if step.kept:
                self.kept.append(made)
        elif isinstance(step, WaitFor):
            self.wait(step.kind, lambda: WAITS[step.kind](self.weight.detach()))
        elif isinstance(step, Replay):
            self.graph(step.kernels).replay()
        elif isinstance(step, Nested):
            self.inner(step.steps)
        else:
            try:
                torch.empty(1 << 45, dtype=torch.uint8, device=self.device)
            except torch.OutOfMemoryError:
                pass

    def wait(self, kind, call):
        began = time.perf_counter()
        call()
        self.waited_s[kind] += time.perf_counter() - began
        self.waits[kind] += 1


class Inner(nn.Module):
    """Runs its part of the outer one's steps."""

    def __init__(self, outer):
        super().__init__()
        self.outer = [outer]  # no submodule of ours

    def forward(self, steps):
        for step in steps:
            self.outer[0].step(step)
        return self.outer[0].weight


def prepare(gpu):
    """A model on each of two devices, with its graphs."""
    models = []
    for device in (0, 1):
        with torch.cuda.device(device):
            models.append(Program(gpu, device))
            for kernels in (1, 2, 3):
                models[device].graph(kernels)
            torch.cuda.synchronize(device)
    return models


def run(gpu, models, program):
    """Do it, and say what each inference did."""
    truths = []
    for item in program:
        model = models[item.device]
        default = torch.cuda.default_stream(item.device)
        stream = model.own if item.own_stream else default
        first = gpu.length()
        ends_ns = [
            line.end_ns
            for line in gpu.timeline()
            if (line.device, line.stream) == (item.device, stream.cuda_stream)
            and line.kind < Kind.WAIT
        ]
        host_begin_ns = time.perf_counter_ns()
        with torch.cuda.stream(stream):
            model(item.steps)
        host_end_ns = time.perf_counter_ns()
        truths.append(
            Truth(
                item.device,
                first,
                gpu.length(),
                {stream.cuda_stream, *([model.side.cuda_stream] if model.joins else [])},
                host_begin_ns,
                host_end_ns,
                max(ends_ns, default=0),
                model.peak,
                dict(model.waited_s),
                model.waits,
            )
        )
        time.sleep(item.pause_s)
    return truths
