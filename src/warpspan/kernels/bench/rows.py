"""One measured row of a benchmark, and its verdict line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from warpspan.records import AttributeValue
from warpspan.signals import names


class BenchRow(NamedTuple):
    """What one provider did with one shape. What was not measured is None.

    Args:
        op: the operation.
        shape: as `--shape` takes it.
        phase: `decode` or `prefill`.
        dtype: of the inputs.
        provider: who computed it.
        cache: `cold` or `hot`: inputs in L2 or not.
        reason: why the provider did not run, or a value is missing.
        method: `graph` or `queued`.
        launches: kernels, copies and fills a call.
        device_p20_s: quantiles of device seconds a call.
        wall_s: median host seconds a call, called one by one.
        minimum_bytes: that any implementation must move.
        ceiling_bytes_per_s: of a plain copy, measured between the same turns.
        datasheet_bytes_per_s: of this GPU.
        peak_bytes: of live tensors in the call, over those before it.
        sm_cycles: device time in cycles of the SM clock that was read while it ran.
        max_error: largest distance from float64.
        error_ratio: that distance as a multiple of eager's.
        speedup: device time of eager divided by this one's.
        first_call_s: the first call, with all compiling and tuning.
    """

    op: str
    shape: str
    phase: str
    dtype: str
    provider: str
    cache: str
    reason: str | None = None
    method: str | None = None
    launches: int | None = None
    device_p20_s: float | None = None
    device_p50_s: float | None = None
    device_p80_s: float | None = None
    wall_s: float | None = None
    minimum_bytes: int | None = None
    flops: int | None = None
    ceiling_bytes_per_s: float | None = None
    datasheet_bytes_per_s: float | None = None
    peak_bytes: int | None = None
    sm_clock_hz: float | None = None
    sm_cycles: float | None = None
    energy_j: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    max_error: float | None = None
    error_ratio: float | None = None
    speedup: float | None = None
    first_call_s: float | None = None

    @property
    def bytes_per_s(self) -> float | None:
        """Minimum bytes divided by the median device time."""
        if self.device_p50_s is None or self.minimum_bytes is None:
            return None
        return self.minimum_bytes / self.device_p50_s

    @property
    def ceiling_fraction(self) -> float | None:
        """Its bandwidth as a fraction of the measured copy's."""
        return _ratio(self.bytes_per_s, self.ceiling_bytes_per_s)

    @property
    def datasheet_fraction(self) -> float | None:
        """Its bandwidth as a fraction of the datasheet's."""
        return _ratio(self.bytes_per_s, self.datasheet_bytes_per_s)

    def to_json(self) -> dict[str, Any]:
        """All fields and what follows from them."""
        return self._asdict() | {
            "bytes_per_s": self.bytes_per_s,
            "ceiling_fraction": self.ceiling_fraction,
            "datasheet_fraction": self.datasheet_fraction,
        }

    def attributes(self) -> dict[str, AttributeValue]:
        """As attributes of its span: an inference's names where one has the same meaning."""
        values: dict[str, Any] = {
            names.PYTORCH_OPERATION_NAME: self.op,
            names.PYTORCH_DEVICE_TIME: self.device_p50_s,
            names.PYTORCH_MEMORY_PEAK_INCREASE: self.peak_bytes,
            names.PYTORCH_BENCH_PROVIDER: self.provider,
            names.PYTORCH_BENCH_SHAPE: self.shape,
            names.PYTORCH_BENCH_DTYPE: self.dtype,
            names.PYTORCH_BENCH_CACHE: self.cache,
            names.PYTORCH_BENCH_METHOD: self.method,
            names.PYTORCH_BENCH_UNAVAILABLE_REASON: self.reason,
            names.PYTORCH_BENCH_LAUNCH_COUNT: self.launches,
            names.PYTORCH_BENCH_DEVICE_TIME_P20: self.device_p20_s,
            names.PYTORCH_BENCH_DEVICE_TIME_P80: self.device_p80_s,
            names.PYTORCH_BENCH_WALL_TIME: self.wall_s,
            names.PYTORCH_BENCH_IO_MINIMUM: self.minimum_bytes,
            names.PYTORCH_BENCH_BANDWIDTH: self.bytes_per_s,
            names.PYTORCH_BENCH_CEILING_UTILIZATION: self.ceiling_fraction,
            names.PYTORCH_BENCH_DATASHEET_UTILIZATION: self.datasheet_fraction,
            names.PYTORCH_BENCH_SM_CYCLES: self.sm_cycles,
            names.PYTORCH_BENCH_ENERGY: self.energy_j,
            names.PYTORCH_BENCH_ERROR_MAX: self.max_error,
            names.PYTORCH_BENCH_ERROR_RATIO: self.error_ratio,
            names.PYTORCH_BENCH_SPEEDUP: self.speedup,
            names.PYTORCH_BENCH_FIRST_CALL_TIME: self.first_call_s,
        }
        return {name: value for name, value in values.items() if value is not None}


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def verdict(rows: Iterable[BenchRow]) -> str:
    """One plain line on one operation: where fusion pays, and what to do where it does not.

    Args:
        rows: of one operation or model; hot ones do not count.
    """
    timed = [row for row in rows if row.cache != "hot" and row.device_p50_s is not None]
    parts = [
        part
        for phase in ("prefill", "decode")
        if (part := _phase_verdict(phase, timed)) is not None
    ]
    if parts:
        return "; ".join(parts)
    return "timed without eager: no speed-up is known" if timed else "nothing was timed"


OURS = ("triton", "fused")  # our kernels, alone and in a model
PAYS = 1.1  # below this a gain is within what shapes and clocks vary
LAUNCH_BOUND = 2.0  # the host needs this many times the device's time for a call


def _phase_verdict(phase: str, rows: Sequence[BenchRow]) -> str | None:
    pairs = []
    for row in rows:
        if row.phase == phase and row.provider in OURS:
            others = [
                other
                for other in rows
                if (other.shape, other.dtype) == (row.shape, row.dtype)
                and other.provider not in OURS
            ]
            pairs.append((row, others))
    gains = [row.speedup for row, _ in pairs if row.speedup is not None]
    if not gains:
        return None
    low, high = f"{min(gains):.1f}", f"{max(gains):.1f}"
    span = f"{low}x" if low == high else f"{low}-{high}x"
    if max(gains) < PAYS:
        line = f"fusion does not pay at {phase} ({span} of eager)"
    else:
        line = f"fusion pays {span} at {phase}"
    beaten = sorted(
        {other.provider for row, others in pairs for other in others if _faster(other, row)}
    )
    if beaten:
        line += f", but {' and '.join(beaten)} is faster at some shape"
    bound = [row for row, _ in pairs if row.wall_s and row.wall_s > LAUNCH_BOUND * _time(row)]
    if bound:
        worst = max(bound, key=lambda row: (row.wall_s or 0.0) / _time(row))
        line += (
            f"; launch cost dominates at {worst.shape} ({(worst.wall_s or 0.0) * 1e6:.0f} us on the "
            f"host for {_time(worst) * 1e6:.1f} us on the device): use CUDA graphs"
        )
    return line


def _time(row: BenchRow) -> float:
    return row.device_p50_s or float("inf")


def _faster(one: BenchRow, other: BenchRow) -> bool:
    """Faster beyond the spread of both."""
    return (one.device_p80_s or float("inf")) < (other.device_p20_s or 0.0)
