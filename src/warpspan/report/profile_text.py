"""Profiler traces as tables: devices, kernels, copies, waits, and the host while devices idle."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.text import Text

from warpspan.records.kernels import CopyTotal, DeviceTimeline, HostTime, KernelTotal, Trace
from warpspan.records.units import plural, printable, seconds, share, size
from warpspan.report.blocks import ABSENT, Column, blocks
from warpspan.report.profile import ProfileRow

_LINES = 8
"""How many kernels or functions a table shows; `--json` has more."""

_CUT = "\N{HORIZONTAL ELLIPSIS}"
_DIRECTIONS = {
    "h2d": "host to device",
    "d2h": "device to host",
    "d2d": "within the device",
    "p2p": "between devices",
    "other": "of unknown direction",
}
_NOISE = re.compile(r"^void |\(anonymous namespace\)::|at::native::|at::cuda::|c10::|std::")


def render_profile(
    traces: Sequence[Trace], rows: Sequence[ProfileRow], console: Console
) -> RenderableType:
    """Everything that a profiler's trace has beside the usual table of inferences."""
    parts: list[RenderableType] = []
    devices = [line for trace in traces for line in trace.devices]
    if devices:
        parts += [*_devices(devices, console), Text()]
    if any(row.kernel_count for row in rows):
        parts += [*_rows([row for row in rows if row.kernel_count], console), Text()]
    if _copy_count(devices) > _copy_count(rows):
        for line in devices:
            copies = _copies(f"All copies on {_place(line)}", line.copies)
            parts += [Text(sentence) for sentence in copies]
        parts.append(Text())
    for line in () if rows else devices:
        title = f"Kernels on {_place(line)}"
        parts += _kernels(title, line.kernels, console, line.kernel_time_s)
    for row in rows:
        parts += _details(row, console)
    if devices:
        parts += _between(max(devices, key=lambda line: line.between_s or 0.0), console)
    return Group(*parts)


def _copy_count(held: Sequence[DeviceTimeline] | Sequence[ProfileRow]) -> int:
    return sum(copy.total for one in held for copy in one.copies)


def _devices(devices: Sequence[DeviceTimeline], console: Console) -> list[RenderableType]:
    busy = [line.busy.total_s if line.complete else None for line in devices]
    several = len({line.process for line in devices}) > 1
    columns = (
        Column(
            "device",
            [f"{_place(line)} {printable(line.name or '')}" for line in devices],
            is_text=True,
        ),
        Column(
            "process",
            [printable(line.process) if several else "" for line in devices],
            is_text=True,
        ),
        Column("elapsed", [seconds(line.elapsed_s) for line in devices]),
        Column("busy", [_seconds(busy_s) for busy_s in busy]),
        Column(
            "share",
            [_share(one, line.elapsed_s) for one, line in zip(busy, devices, strict=True)],
        ),
        Column("copies\nalone", [_seconds(_alone(line)) for line in devices]),
        Column(
            "idle",
            [
                _seconds(None if one is None else line.elapsed_s - one)
                for one, line in zip(busy, devices, strict=True)
            ],
        ),
        Column("idle between\ninferences", [_seconds(line.between_s) for line in devices]),
    )
    return blocks(columns, console)


def _alone(line: DeviceTimeline) -> float | None:
    return line.copies_alone_s if line.complete else None


def _place(line: DeviceTimeline) -> str:
    ordinal = line.device.ordinal
    return line.device.type if ordinal is None else f"{line.device.type}:{ordinal}"


def _rows(rows: Sequence[ProfileRow], console: Console) -> list[RenderableType]:
    def mean(value: float | None, row: ProfileRow) -> str:
        return _seconds(None if value is None else value / row.inference_count)

    columns = (
        Column("per inference", [_name(row) for row in rows], is_text=True),
        Column("on device", [mean(row.device_s, row) for row in rows]),
        Column("busy", [mean(row.busy_s, row) for row in rows]),
        Column("share", [_share(row.busy_s, row.device_s) for row in rows]),
        Column("copies\nalone", [mean(row.copies_alone_s, row) for row in rows]),
        Column("idle", [mean(row.idle_s, row) for row in rows]),
        Column("kernels", [_rate(row.kernel_count, row.inference_count) for row in rows]),
        Column(
            "mean\nkernel",
            [
                _seconds(row.kernel_time_s / row.kernel_count)
                if row.kernel_time_s is not None and row.kernel_count
                else ABSENT
                for row in rows
            ],
        ),
        Column("launches", [_rate(row.launch_count or None, row.inference_count) for row in rows]),
        Column("tensor\ncores", [_maybe_share(row.tensor_core_share) for row in rows]),
        Column("occupancy", [_maybe_share(row.occupancy) for row in rows]),
    )
    return blocks(columns, console)


def _details(row: ProfileRow, console: Console) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if row.kernels:
        parts += _kernels(f"Kernels of {_name(row)}", row.kernels, console, row.kernel_time_s)
    elif row.operators:
        parts += _kernels(f"Operators of {_name(row)}", row.operators, console, None)
    lines = [*_engine(row), *_copies("Copies", row.copies), *_waits(row), *_idle(row)]
    lines += _roofline(row)
    if lines:
        parts += [*(Text(line) for line in lines), Text()]
    if row.functions and row.idle_s:
        title = f"Functions of {_name(row)} while the device was idle, by their own time"
        parts += [*_functions(title, row.functions, row.idle_s, console), Text()]
    return parts


def _kernels(
    title: str, kernels: Sequence[KernelTotal], console: Console, all_s: float | None
) -> list[RenderableType]:
    if not kernels:
        return []
    held = kernels[:_LINES]
    columns = (
        Column("time", [seconds(kernel.time_s) for kernel in held]),
        Column("share", [_share(kernel.time_s, all_s) if all_s else "" for kernel in held]),
        Column("count", [f"{kernel.total:,}" for kernel in held]),
        Column("mean", [seconds(kernel.time_s / kernel.total) for kernel in held]),
        Column("name", [printable(short_kernel(kernel.name)) for kernel in held], is_text=True),
        Column("operator", [printable(kernel.operator or "") for kernel in held], is_text=True),
        Column(
            "tensors", [printable(_short(kernel.shapes or "")) for kernel in held], is_text=True
        ),
    )
    key = next(at for at, column in enumerate(columns) if column.heading == "name")
    parts = [Text(f"{title}, most time first", "bold"), *blocks(columns, console, (key,))]
    if any(str(cell).endswith(_CUT) for column in columns for cell in column.cells):
        parts.append(Text(f"{_CUT} = the name goes on: --json has all of it.", "dim"))
    return [*parts, Text()]


def _short(text: str, width: int = 60) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}{_CUT}"


def short_kernel(name: str, width: int = 60) -> str:
    """A kernel's name without its arguments and what says nothing in it, at most so long."""
    depth, end = 0, len(name)
    for at, sign in enumerate(name):
        if sign == "(" and depth == 0 and not name.startswith("(anonymous", at):
            end = at
            break
        depth += (sign == "<") - (sign == ">")
    return _short(_NOISE.sub("", name[:end] or name).strip(), width)


def _engine(row: ProfileRow) -> list[str]:
    if row.requests is None or row.tokens is None:
        return []
    parts = [
        f"{plural(requests, 'request')} {what} ({plural(tokens, 'token')})"
        for what, requests, tokens in zip(
            ("prefilled", "decoded"), row.requests, row.tokens, strict=True
        )
        if requests
    ]
    return [f"{_name(row)}: {', '.join(parts)}."] if parts else []


def _copies(title: str, copies: Sequence[CopyTotal]) -> list[str]:
    if not copies:
        return []
    listed = ", ".join(
        f"{copy.total:,} {_DIRECTIONS[copy.direction]}"
        + (f" {copy.memory}" if copy.memory else "")
        + (f" {size(copy.nbytes)}" if copy.nbytes is not None else "")
        + f" in {seconds(copy.time_s)}"
        for copy in copies
    )
    return [f"{title}: {listed}."]


def _waits(row: ProfileRow) -> list[str]:
    lines = []
    for wait in row.waits[:3]:
        idle = "" if wait.idle_s is None else f", {seconds(wait.idle_s)} of it with an idle device"
        place = "" if wait.frame is None else f", longest in {wait.frame}"
        lines.append(
            printable(
                f"Waits: {wait.total:,} {wait.kind} ({wait.call}), {seconds(wait.time_s)}"
                f"{idle}{place}."
            )
        )
    return lines


def _idle(row: ProfileRow) -> list[str]:
    if row.host is None or not row.idle_s:
        return []
    parts = (
        ("in functions", row.host.python_s),
        ("in operators", row.host.operator_s),
        ("in the driver", row.host.driver_s),
        ("waiting", row.host.wait_s),
        ("elsewhere", row.host.other_s),
    )
    listed = ", ".join(
        f"{share(value / row.idle_s)} {where}"
        for where, value in sorted(parts, key=lambda part: -part[1])
        if value >= row.idle_s / 1000
    )
    return [f"While the device was idle, the host was {listed}."]


def _roofline(row: ProfileRow) -> list[str]:
    bound = row.roofline
    if bound is None:
        return []
    return [
        f"Roofline: {share(bound.covered_share)} of the kernel time is in operators of known shape: "
        f"{share(bound.compute_share)} of that bound by arithmetic (which runs at "
        f"{share(bound.flops_share)} of the peak), {share(bound.bandwidth_share)} by memory "
        f"({share(bound.bandwidth_used)} of the peak). Peaks: {bound.source}."
    ]


def _between(line: DeviceTimeline, console: Console) -> list[RenderableType]:
    # A gap that is no part of what a user waits for is not worth a table.
    if not line.between_s or line.between_s < 0.05 * line.elapsed_s or not line.between_functions:
        return []
    title = (
        f"Between inferences {_place(line)} was idle for {seconds(line.between_s)}; meanwhile ran, "
        "with all that they call"
    )
    return [*_functions(title, line.between_functions, line.between_s, console), Text()]


def _functions(
    title: str, functions: Sequence[HostTime], all_s: float, console: Console
) -> list[RenderableType]:
    held = functions[:_LINES]
    columns = (
        Column("time", [seconds(function.time_s) for function in held]),
        Column("share", [share(function.time_s / all_s) for function in held]),
        Column("function", [printable(function.name) for function in held], is_text=True),
    )
    return [Text(title, "bold"), *blocks(columns, console, keys=(2,))]


def _name(row: ProfileRow) -> str:
    return printable(f"{row.operation} {row.model or ''}".rstrip())


def _seconds(value: float | None) -> str:
    return ABSENT if value is None else seconds(value)


def _maybe_share(value: float | None) -> str:
    return ABSENT if value is None else share(value)


def _share(part: float | None, whole: float | None) -> str:
    return ABSENT if part is None or not whole else share(part / whole)


def _rate(count: int | None, of: int) -> str:
    if count is None:
        return ABSENT
    return f"{count / of:,.0f}" if count % of == 0 or count >= 100 * of else f"{count / of:.1f}"
