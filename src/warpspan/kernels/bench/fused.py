"""The fused-kernel suite: check every case, then time every provider, a row and a span each."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from opentelemetry import context, trace

from warpspan.kernels.bench import correctness, harness, providers
from warpspan.kernels.bench.harness import Call, Workload
from warpspan.kernels.bench.op import Arguments, Dims, Op, Unavailable, label, mapped, tensors
from warpspan.kernels.bench.rows import BenchRow
from warpspan.records import AttributeValue
from warpspan.signals import names

if TYPE_CHECKING:
    from typing_extensions import Self

# Sets of buffers to rotate over: enough work for one replay, bounded in memory.
ROTATED_BYTES = 256 * 2**20
MAX_SETS = 64
CEILING = "copy"  # the plain copy that takes turns with the providers
# Triton's interpreter truncates to bfloat16 where the hardware rounds: each rounding may be off by
# a unit in the last place in place of half a one.
INTERPRETED_BF16 = {"factor": 4.0, "ulps": 3.0}


class BenchDevice(harness.Device, Protocol):
    """What the suite needs of a device beside timing."""

    name: str
    identity: str | None
    torch_device: torch.device

    def launches(self, call: Call) -> int:
        """Kernels, copies and fills of one call."""

    def peak_bytes(self, call: Call) -> int:
        """Peak of live tensors in one call, over what was allocated before."""

    def copy_calls(self) -> list[Call]:
        """Plain copies that are far larger than L2."""


class Ceiling(NamedTuple):
    """Bandwidths that rows are held to."""

    copied_bytes: int
    datasheet_bytes_per_s: float | None


class WrongResultError(Exception):
    """A fused kernel broke the correctness rule; the message names the case."""


def check(
    op: Op, dtype: torch.dtype, generator: torch.Generator, *, interpreted: bool
) -> Iterator[correctness.Check]:
    """All correctness cases of an operation; none where the interpreter can't do the dtype."""
    if interpreted and op.uses_dot and dtype == torch.bfloat16:
        return
    allowance: dict[str, Any] = {}
    if interpreted and dtype == torch.bfloat16:
        allowance = INTERPRETED_BF16
    for case, arguments in correctness.cases(op, dtype, generator):
        yield correctness.check(op, op.fused, arguments, case, **allowance)


class _Contender(NamedTuple):
    """A provider that ran once: its workload and what one call of it told."""

    workload: Workload
    first_call_s: float
    launches: int
    peak_bytes: int
    error: correctness.Error | None
    reason: str | None


def run_case(
    op: Op,
    dims: Dims,
    dtype: torch.dtype,
    names: Sequence[str],
    device: BenchDevice,
    ceiling: Ceiling,
    *,
    generator: torch.Generator,
    rounds: int,
    caches: Sequence[str] = ("cold", "hot"),
    meter: harness.Meter | None = None,
) -> list[BenchRow]:
    """Check and time one operation at one shape with all providers.

    Returns:
        A row for each provider and cache state; a single one, with the reason, for a provider
        that can't run.

    Raises:
        WrongResultError: our kernel broke the rule.
    """
    # Dynamo keeps few versions of one function; each shape is one.
    torch.compiler.reset()
    first = op.build(dims, dtype, generator)
    size = sum(t.numel() * t.element_size() for t in tensors(first))
    count = max(2, min(MAX_SETS, ROTATED_BYTES // max(1, size)))
    sets = [first, *(op.build(dims, dtype, generator) for _ in range(count - 1))]
    moved, flops = op.cost(*first)
    base = BenchRow(
        op.name,
        label(dims),
        op.phase(dims),
        str(dtype).removeprefix("torch."),
        "",
        "",
        minimum_bytes=moved,
        flops=flops,
        datasheet_bytes_per_s=ceiling.datasheet_bytes_per_s,
    )
    judge = _judge(op, first)
    contenders: dict[str, _Contender] = {}
    rows: list[BenchRow] = []
    for name in names:
        one = _contend(op, name, sets, base.shape, device, judge)
        if isinstance(one, str):
            rows.append(base._replace(provider=name, reason=one))
        else:
            contenders[name] = one
    for cache in caches:
        rows += _timed(base, contenders, cache, device, ceiling, rounds=rounds, meter=meter)
    return rows


def _judge(op: Op, arguments: Arguments) -> Callable[[Any], correctness.Error] | None:
    """The rule for outputs at these arguments; None where float64 does not fit in memory."""
    try:
        copies = [mapped(torch.clone, arguments) for _ in range(2)]
        double = mapped(torch.Tensor.double, arguments)
        eager = op.comparable(op.reference(*copies[0]), arguments)
        exact = op.comparable(op.reference(*double), double)
    except torch.cuda.OutOfMemoryError:
        return None

    def judge(outputs: Any) -> correctness.Error:
        return correctness.compare(op.comparable(outputs, copies[1]), eager, exact)

    return judge


def _contend(
    op: Op,
    name: str,
    sets: Sequence[Arguments],
    case: str,
    device: BenchDevice,
    judge: Callable[[Any], correctness.Error] | None,
) -> _Contender | str:
    """A provider ready to be timed, or why it can't run."""
    try:
        return _first_run(op, name, sets, case, device, judge)
    except Unavailable as why:
        return str(why)
    except WrongResultError:
        raise
    except Exception as error:  # a provider's own fault is told in its row
        first_line = next(iter(str(error).strip().splitlines()), "")
        return f"{type(error).__name__}: {first_line[:200]}"


def _first_run(
    op: Op,
    name: str,
    sets: Sequence[Arguments],
    case: str,
    device: BenchDevice,
    judge: Callable[[Any], correctness.Error] | None,
) -> _Contender:
    function, adapt = providers.prepare(op, name)
    calls = [functools.partial(function, *adapt(arguments)) for arguments in sets]
    # Checked on a copy: some libraries write in place.
    trial = functools.partial(function, *adapt(mapped(torch.clone, sets[0])))
    first_call_s = harness.first_call(device, trial)
    error, reason = None, None
    if judge is None:
        reason = "error not measured: float64 does not fit in memory"
    else:
        fresh = functools.partial(function, *adapt(mapped(torch.clone, sets[0])))
        # Compilers guard on the switch that poisons: they would compile again inside.
        with correctness.poisoned() if name == "triton" else contextlib.nullcontext():
            outputs = fresh()
        error = judge(outputs)
        if error.failure and name == "triton":
            dtype = tensors(sets[0])[0].dtype
            raise WrongResultError(f"{op.name} {dtype} {case}: {error.failure}")
        reason = f"beyond the rule: {error.failure}" if error.failure else None
    return _Contender(
        Workload(name, calls),
        first_call_s,
        device.launches(trial),
        device.peak_bytes(trial),
        error,
        reason,
    )


def _timed(
    base: BenchRow,
    contenders: dict[str, _Contender],
    cache: str,
    device: BenchDevice,
    ceiling: Ceiling,
    *,
    rounds: int,
    meter: harness.Meter | None,
) -> Iterator[BenchRow]:
    workloads = [one.workload for one in contenders.values()]
    timings = harness.measure(
        [*workloads, Workload(CEILING, device.copy_calls())],
        device,
        cold=cache == "cold",
        rounds=rounds,
        first_calls={CEILING: 0.0} | {n: c.first_call_s for n, c in contenders.items()},
        meter=meter,
    )
    copied = ceiling.copied_bytes / timings[CEILING].device.p50_s
    eager = timings.get("eager")
    for name, one in contenders.items():
        timing = timings[name]
        median, clock = timing.device.p50_s, timing.sm_clock_hz
        yield base._replace(
            provider=name,
            cache=cache,
            reason=one.reason,
            method=timing.method,
            launches=one.launches,
            device_p20_s=timing.device.p20_s,
            device_p50_s=median,
            device_p80_s=timing.device.p80_s,
            wall_s=timing.wall.p50_s,
            # A hot call takes its inputs from L2: the memory's ceiling says nothing of it.
            ceiling_bytes_per_s=copied if cache == "cold" else None,
            datasheet_bytes_per_s=base.datasheet_bytes_per_s if cache == "cold" else None,
            peak_bytes=one.peak_bytes,
            sm_clock_hz=clock,
            sm_cycles=None if clock is None else clock * median,
            energy_j=timing.energy_j,
            throttle_reasons=timing.throttle_reasons,
            max_error=one.error.largest if one.error else None,
            error_ratio=one.error.ratio if one.error else None,
            speedup=None if eager is None else eager.device.p50_s / median,
            first_call_s=timing.first_call_s,
        )


class Run:
    """A benchmark as a trace: a parent span, and one a row."""

    def __init__(self, name: str, device: BenchDevice, tracer: trace.Tracer | None = None) -> None:
        self._tracer = tracer or trace.get_tracer("warpspan.kernels.bench")
        values: dict[str, str | int | None] = {
            names.PYTORCH_DEVICE_TYPE: device.torch_device.type,
            names.PYTORCH_DEVICE_INDEX: device.torch_device.index,
            names.HW_ID: device.identity,
        }
        self._device: dict[str, AttributeValue] = {
            name: value for name, value in values.items() if value is not None
        }
        self._span = self._tracer.start_span(name, attributes=self._device)
        self._context = trace.set_span_in_context(self._span)
        self._token: Any = None

    def __enter__(self) -> Self:
        # Current, so that inferences of a benchmarked model have it for their parent.
        self._token = context.attach(self._context)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        context.detach(self._token)
        if kind is not None:
            self._span.set_attribute(names.ERROR_TYPE, kind.__qualname__)
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()

    def add(self, rows: Sequence[BenchRow], start_ns: int) -> None:
        """Spans of rows that took turns from `start_ns` (Unix time) to now."""
        end_ns = time.time_ns()
        for row in rows:
            self._tracer.start_span(
                f"{row.op} {row.provider}",
                context=self._context,
                start_time=start_ns,
                attributes=self._device | row.attributes(),
            ).end(end_time=end_ns)
