"""Renders a snapshot of the machine for a terminal. Pure: a snapshot in, a renderable out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from warpspan.records.units import seconds, size
from warpspan.report.blocks import ABSENT

_HOT_C = 85
_WIDE = 100
_SHORT = {
    "sw_power_cap": "power cap",
    "sw_thermal_slowdown": "heat",
    "hw_thermal_slowdown": "heat (hw)",
    "hw_power_brake_slowdown": "power brake",
    "applications_clocks_setting": "clock setting",
}


class _Column(NamedTuple):
    """A column; `wide` ones are shown where there is room."""

    heading: str
    cell: Callable[[dict[str, Any]], str | Text | None]
    justify: Literal["left", "right"] = "right"
    wide: bool = False


def _percent(name: str) -> Callable[[dict[str, Any]], str | None]:
    def cell(row: dict[str, Any]) -> str | None:
        value = row[name]
        return None if value is None else f"{value:.0%}"

    return cell


def _model(row: dict[str, Any]) -> str | None:
    name: str | None = row["name"]
    return None if name is None else name.removeprefix("NVIDIA ")


def _memory(row: dict[str, Any]) -> str | None:
    used, limit = row["memory_used_bytes"], row["memory_total_bytes"]
    return None if used is None or not limit else f"{used / 2**30:.1f}/{limit / 2**30:.0f} GiB"


def _number(name: str, form: str, scale: float = 1.0) -> Callable[[dict[str, Any]], str | None]:
    def cell(row: dict[str, Any]) -> str | None:
        value = row[name]
        return None if value is None else form.format(value * scale)

    return cell


def _temperature(row: dict[str, Any]) -> Text | None:
    value = row["temperature_c"]
    if value is None:
        return None
    return Text(f"{value:.0f} °C", style="red" if value >= _HOT_C else "")


def _throttle(row: dict[str, Any]) -> Text | None:
    reasons = row["throttle_reasons"]
    if reasons is None:
        return None
    words = ", ".join(_SHORT.get(reason, reason.replace("_", " ")) for reason in reasons)
    return Text(words, style="yellow") if words else Text("none", style="dim")


_DEVICE = (
    _Column("GPU", lambda row: row["index"], "left"),
    _Column("model", lambda row: _model(row), "left", wide=True),
    _Column("kernels", _percent("utilization")),
    _Column("SM", _percent("sm_utilization")),
    _Column("occup.", _percent("sm_occupancy"), wide=True),
    _Column("tensor", _percent("tensor_utilization")),
    _Column("DRAM", _percent("dram_utilization")),
    _Column("memory", _memory),
    _Column("power", _number("power_w", "{:.0f} W")),
    _Column("clock", _number("sm_clock_hz", "{:.0f} MHz", 1e-6), wide=True),
    _Column("temp.", _temperature),
    _Column("throttled by", _throttle, "left"),
)
_PROCESS = (
    _Column("pid", lambda row: str(row["pid"])),
    _Column("GPU", lambda row: row["gpu"], "left"),
    _Column("process", lambda row: row["service"], "left"),
    _Column("memory", lambda row: _maybe_size(row["memory_used_bytes"])),
    _Column("inf/s", lambda row: _rate(row["inferences_per_s"])),
    _Column("open", lambda row: None if row["open"] is None else str(row["open"]), wide=True),
    _Column("GPU-s/inf", lambda row: _maybe_seconds(row["gpu_s_per_inference"])),
    _Column("SM cycles/inf", lambda row: _count(row["cycles_active_per_inference"])),
    _Column("clock cycles/inf", lambda row: _count(row["cycles_elapsed_per_inference"]), wide=True),
    _Column("J/inf", lambda row: _joules(row["joules_per_inference"])),
)


def render(snapshot: dict[str, Any], width: int, *, live: bool = False) -> RenderableType:
    """A snapshot as tables.

    Args:
        snapshot: the result of `Machine.snapshot`.
        width: columns of the terminal.
        live: whether it is shown until the user ends it.
    """
    devices = snapshot["devices"]
    numbers = {device["id"]: device["index"] for device in devices}
    processes = [
        {**process, "gpu": numbers.get(process["device_id"], ABSENT)}
        for process in snapshot["processes"]
    ]
    processes.sort(key=lambda row: (not row["instrumented"], -(row["inferences_per_s"] or 0)))
    title = Text.assemble(
        ("warpspan top", "bold"),
        f"   driver {snapshot['driver'] or ABSENT}, CUDA {snapshot['cuda'] or ABSENT}",
    )
    parts: list[RenderableType] = [title]
    if width < _WIDE:
        parts += [
            Text(f"GPU {device['index']}  {_model(device) or ABSENT}", style="dim")
            for device in devices
        ]
    if snapshot["problem"]:
        parts.append(Text(f"The driver does not answer: {snapshot['problem']}.", style="red"))
    parts += [Text(), _table(_DEVICE, devices, width), Text()]
    if processes:
        parts.append(_table(_PROCESS, processes, width))
    else:
        parts.append(Text("No process is using these GPUs.", style="dim"))
    if not any(process["instrumented"] for process in processes):
        parts.append(
            Text(
                "No instrumented process of yours is reporting inferences. Start one with "
                "`warpspan run` or `opentelemetry-instrument`.",
                style="dim",
            )
        )
    if live:
        parts.append(Text("Ctrl-C to quit", style="dim"))
    return Group(*parts)


def _table(columns: Sequence[_Column], rows: Sequence[dict[str, Any]], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    shown = [column for column in columns if width >= _WIDE or not column.wide]
    for column in shown:
        table.add_column(
            column.heading,
            justify=column.justify,
            no_wrap=column.heading not in ("throttled by", "process", "model"),
            overflow="fold",
        )
    for row in rows:
        cells = [column.cell(row) for column in shown]
        table.add_row(*(Text(ABSENT, style="dim") if cell is None else cell for cell in cells))
    return table


def _maybe_seconds(value: float | None) -> str | None:
    return None if value is None else seconds(value)


def _maybe_size(value: int | None) -> str | None:
    return None if value is None else size(value)


def _rate(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _count(value: float | None) -> str | None:
    if value is None:
        return None
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.0f}"


def _joules(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:.3g} J" if value >= 1 else f"{value * 1e3:.3g} mJ"
