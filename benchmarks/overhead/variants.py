"""The ways to instrument a model that are compared, and the model that they are compared on."""

from __future__ import annotations

import contextvars
import importlib
import threading
import time
from collections.abc import Callable
from types import CodeType
from typing import Any, ClassVar

import torch
from opentelemetry import metrics, trace
from torch.nn import Module
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

import warpspan
from warpspan.instrumentor import active_session
from warpspan.probes import garbage
from warpspan.probes.memory import process_rss_bytes
from warpspan.signals import instruments, names

BASELINE = "no instrumentation"
WARPSPAN = "warpspan"
BARE = "bare span, 25 attr."
HANDWRITTEN = "hand-written"
HOOKS = "global forward hooks"
TORCHTEL = "torchtel"

# As many attributes as an inference on a GPU has, with values as it has them.
_BARE_ATTRIBUTES: dict[str, Any] = {
    names.PYTORCH_OPERATION_NAME: "forward",
    names.PYTORCH_MODEL_NAME: "Stack",
    names.PYTORCH_DEVICE_TYPE: "cuda",
    names.PYTORCH_DEVICE_INDEX: 0,
    names.HW_ID: "GPU-9f3c1f0e-2d8c-4d4f-8a70-3b1e6d1c7a55",
    names.PYTORCH_MODEL_PARAMETER_COUNT: 20,
    names.PYTORCH_MODEL_PARAMETER_SIZE: 80,
    names.PYTORCH_MODEL_DTYPE: "float32",
    names.PYTORCH_MODEL_COMPILED: False,
    names.PYTORCH_MODEL_DEVICE_COUNT: 1,
    names.PYTORCH_INPUT_BATCH_SIZE: 2,
    names.PYTORCH_INPUT_SHAPE: (2, 4),
    names.PYTORCH_HOST_CPU_TIME: 0.0012,
    names.PYTORCH_DEVICE_TIME: 0.0011,
    names.PYTORCH_DEVICE_QUEUE_TIME: 0.0001,
    names.PYTORCH_DEVICE_IDLE_TIME: 0.002,
    names.PYTORCH_INFERENCE_CONCURRENCY: 1,
    names.PYTORCH_MEMORY_ALLOCATED_START: 90_000_000,
    names.PYTORCH_MEMORY_ALLOCATED_END: 90_000_512,
    names.PYTORCH_MEMORY_PEAK_SIZE: 120_000_000,
    names.PYTORCH_MEMORY_PEAK_INCREASE: 30_000_000,
    names.PYTORCH_MEMORY_RESERVED: 150_000_000,
    names.PYTORCH_MEMORY_LIMIT: 85_000_000_000,
    names.PYTORCH_MEMORY_UTILIZATION: 0.0014,
    names.PYTORCH_MEMORY_ALLOCATION_RETRIES: 0,
}
_RSS_AGE_NS = 50_000_000
_DRAIN_S = 30.0


class UnavailableError(Exception):
    """A variant does not run here. The message says why."""


class Pass(Module):
    """The least that a submodule can do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give back what came."""
        return x


class Stack(Module):
    """A small layer, then as many trivial submodules as asked for, timed together."""

    def __init__(self, submodules: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.stack = torch.nn.ModuleList(Pass() for _ in range(submodules))
        self._calls = list(self.stack)  # a plain list: iterating a ModuleList costs calls too
        #: What the trivial submodules took in each call, in nanoseconds.
        self.inner_ns: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Call one after the other."""
        x = self.linear(x)
        began_ns = time.perf_counter_ns()
        for call in self._calls:
            x = call(x)
        self.inner_ns.append(time.perf_counter_ns() - began_ns)
        return x


class Variant:
    """A way to instrument a model. This one does nothing: the baseline.

    Args:
        model: the model, to be called by `call`.
    """

    #: How many spans a call records when spans are recorded at all.
    spans = 0

    def __init__(self, model: Stack) -> None:
        self.model = model
        self.call: Callable[[torch.Tensor], Any] = model
        # What a variant makes current (torchtel keeps a span open) must not reach the others.
        self.context = contextvars.copy_context()

    def switch_on(self) -> None:
        """Begin to instrument."""

    def switch_off(self) -> None:
        """Leave no trace."""

    def drain(self) -> None:
        """Do what calls left to be done, up to the exporters."""
        for provider in (trace.get_tracer_provider(), metrics.get_meter_provider()):
            flush = getattr(provider, "force_flush", None)  # without an SDK there is none
            if flush is not None:
                flush()

    @property
    def dropped(self) -> int:
        """Inferences that were not recorded since the process started."""
        return 0


class Warpspan(Variant):
    """This package. Instrumented once; a switch puts its code into `Module._call_impl` and out."""

    spans = 1
    _codes: ClassVar[tuple[CodeType, CodeType] | None] = None

    def __init__(self, model: Stack) -> None:
        super().__init__(model)
        if Warpspan._codes is None:
            original = Module._call_impl.__code__
            warpspan.WarpspanInstrumentor().instrument()
            Warpspan._codes = (original, Module._call_impl.__code__)
            self.switch_off()

    def switch_on(self) -> None:
        """Put the patch in."""
        Module._call_impl.__code__ = self._codes[1]  # type: ignore[index]

    def switch_off(self) -> None:
        """Put the original back."""
        Module._call_impl.__code__ = self._codes[0]  # type: ignore[index]

    def drain(self) -> None:
        """Finish what is queued, then flush the providers."""
        session = active_session()
        if session is not None:
            session.finisher.flush(_DRAIN_S)
        super().drain()

    @property
    def dropped(self) -> int:
        """Inferences that found the queue full, or were not finished whole."""
        session = active_session()
        return 0 if session is None else session.finisher.dropped.total()


class Bare(Variant):
    """A span with 25 attributes that are all there when it starts, and no metrics."""

    spans = 1

    def __init__(self, model: Stack) -> None:
        super().__init__(model)
        tracer = trace.get_tracer("bare")

        def call(x: torch.Tensor) -> Any:
            with tracer.start_as_current_span("forward Stack", attributes=_BARE_ATTRIBUTES):
                return model(x)

        self.call = call


class HandWritten(Variant):
    """The span and the metrics of warpspan, as a careful engineer writes them around a call.

    What does not change is computed once; shapes, times, the gap since the previous inference and
    the number of open ones are read at each call, resident memory as rarely as by warpspan.
    """

    spans = 1

    def __init__(self, model: Stack) -> None:
        super().__init__(model)
        parameters = list(model.parameters())
        self._tracer = trace.get_tracer("hand-written")
        self._start = {
            names.PYTORCH_OPERATION_NAME: "forward",
            names.PYTORCH_MODEL_NAME: type(model).__name__,
            names.PYTORCH_DEVICE_TYPE: "cpu",
        }
        self._name = f"forward {type(model).__name__}"
        self._facts = {
            names.PYTORCH_MODEL_PARAMETER_COUNT: sum(p.numel() for p in parameters),
            names.PYTORCH_MODEL_PARAMETER_SIZE: sum(
                p.numel() * p.element_size() for p in parameters
            ),
            names.PYTORCH_MODEL_DTYPE: str(parameters[0].dtype).removeprefix("torch."),
            names.PYTORCH_MODEL_COMPILED: False,
            names.PYTORCH_MODEL_DEVICE_COUNT: len({p.device for p in parameters}),
        }
        meter = metrics.get_meter("hand-written")
        duration = instruments.PYTORCH_INFERENCE_DURATION
        batch = instruments.PYTORCH_INFERENCE_BATCH_SIZE
        idle = instruments.PYTORCH_INFERENCE_IDLE_TIME
        self._duration = meter.create_histogram(
            duration.name, duration.unit, explicit_bucket_boundaries_advisory=duration.buckets
        )
        self._batch = meter.create_histogram(
            batch.name, batch.unit, explicit_bucket_boundaries_advisory=batch.buckets
        )
        self._idle = meter.create_counter(idle.name, idle.unit)
        self._lock = threading.Lock()
        self._open = self._begun = 0
        self._last_end_ns: int | None = None
        self._rss_bytes: int | None = None
        self._rss_due_ns = 0
        self.call = self._inference

    def _inference(self, x: torch.Tensor) -> Any:
        began_ns = time.perf_counter_ns()
        with self._lock:
            others, begun, last_end_ns = self._open, self._begun, self._last_end_ns
            self._open += 1
            self._begun += 1
        idle_s = None
        if last_end_ns is not None:
            idle_s = 0.0 if others else (began_ns - last_end_ns) / 1e9
        with self._tracer.start_as_current_span(self._name, attributes=self._start) as span:
            recording = span.is_recording()
            began_cpu_ns = time.thread_time_ns() if recording else 0
            # What a callback of the collector counts, as warpspan's does.
            collected = garbage.state[0]
            try:
                return self.model(x)
            finally:
                ended_ns = time.perf_counter_ns()
                gc_s, gc_count = garbage.between(collected, garbage.state[0])
                ended_cpu_ns = time.thread_time_ns() if recording else 0
                with self._lock:
                    concurrency = others + self._begun - begun
                    self._open -= 1
                    self._last_end_ns = ended_ns
                shape = tuple(x.shape)
                if recording:
                    attributes: dict[str, Any] = {
                        **self._facts,
                        names.PYTORCH_INPUT_BATCH_SIZE: shape[0],
                        names.PYTORCH_INPUT_SHAPE: shape,
                        names.PYTORCH_HOST_CPU_TIME: (ended_cpu_ns - began_cpu_ns) / 1e9,
                        names.PYTORCH_INFERENCE_CONCURRENCY: concurrency,
                    }
                    if idle_s is not None:
                        attributes[names.PYTORCH_DEVICE_IDLE_TIME] = idle_s
                    if gc_s is not None and gc_count is not None:
                        attributes[names.PYTORCH_HOST_GC_TIME] = gc_s
                        attributes[names.PYTORCH_HOST_GC_COUNT] = gc_count
                    rss_bytes = self._rss(ended_ns)
                    if rss_bytes is not None:
                        attributes[names.PYTORCH_HOST_MEMORY_RSS] = rss_bytes
                    span.set_attributes(attributes)
                self._duration.record((ended_ns - began_ns) / 1e9, self._start)
                self._batch.record(shape[0], self._start)
                if idle_s is not None:
                    self._idle.add(idle_s, self._start)

    def _rss(self, now_ns: int) -> int | None:
        if now_ns >= self._rss_due_ns:
            self._rss_due_ns = now_ns + _RSS_AGE_NS
            self._rss_bytes = process_rss_bytes()
        return self._rss_bytes


class Hooks(Variant):
    """torch's global forward hooks, with a span at the outermost module and no metrics."""

    spans = 1

    def __init__(self, model: Stack) -> None:
        super().__init__(model)
        self._tracer = trace.get_tracer("hooks")
        self._local = threading.local()
        self._handles: list[Any] = []

    def switch_on(self) -> None:
        """Register the hooks."""
        self._handles = [
            register_module_forward_pre_hook(self._before),
            register_module_forward_hook(self._after, always_call=True),
        ]

    def switch_off(self) -> None:
        """Remove them."""
        for handle in self._handles:
            handle.remove()

    def _before(self, module: Module, args: tuple[Any, ...]) -> None:
        local = self._local
        depth = local.depth = getattr(local, "depth", 0) + 1
        if depth == 1:
            name = type(module).__name__
            local.span = self._tracer.start_as_current_span(
                f"forward {name}",
                attributes={
                    names.PYTORCH_OPERATION_NAME: "forward",
                    names.PYTORCH_MODEL_NAME: name,
                    names.PYTORCH_INPUT_SHAPE: tuple(args[0].shape),
                },
            )
            local.span.__enter__()

    def _after(self, module: Module, args: tuple[Any, ...], output: Any) -> None:  # noqa: ARG002
        local = self._local
        local.depth -= 1
        if local.depth == 0:
            local.span.__exit__(None, None, None)


class Torchtel(Variant):
    """torchtel 0.0.3: wraps `forward` of the one model that it is given; no attributes.

    Raises:
        UnavailableError: it is not installed, or does not work with what is.
    """

    spans = 1

    def __init__(self, model: Stack) -> None:
        super().__init__(model)
        try:
            self._instrumentor = importlib.import_module("torchtel").PyTorchInstrumentor()
        except Exception as error:
            raise UnavailableError(_sentence(error)) from error

    def switch_on(self) -> None:
        """Instrument the model, inside the context of this variant."""
        try:
            self._instrumentor.instrument(model=self.model)
        except Exception as error:
            raise UnavailableError(_sentence(error)) from error

    def switch_off(self) -> None:
        """End its training span and give the model its `forward` back."""
        self._instrumentor.uninstrument()


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".strip()


#: Every variant by the name of its row.
VARIANTS: dict[str, type[Variant]] = {
    BASELINE: Variant,
    WARPSPAN: Warpspan,
    BARE: Bare,
    HANDWRITTEN: HandWritten,
    HOOKS: Hooks,
    TORCHTEL: Torchtel,
}
