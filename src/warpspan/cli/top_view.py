"""Renders a snapshot of the machine for a terminal. Pure: a snapshot in, a renderable out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from warpspan.cli.top_charts import bar, sparkline
from warpspan.cli.top_state import ORDERS, Row, View, busy
from warpspan.records.units import cycles, joules, plural, printable, rate, seconds, share, size
from warpspan.report.blocks import ABSENT, Cell, Column, blocks, one_block

_HOT_C = 85
_SHORT = {
    "sw_power_cap": "power cap",
    "sw_thermal_slowdown": "heat",
    "hw_thermal_slowdown": "heat (hw)",
    "hw_power_brake_slowdown": "power brake",
    "applications_clocks_setting": "clock setting",
}
_HINT = (
    "No instrumented process of yours is reporting inferences. Start one with `warpspan run` or "
    "`opentelemetry-instrument`, and send it a request."
)
#: Lines of a table above its rows: heading and rule.
_HEAD = 2
_WIDE = 120


def render(
    snapshot: dict[str, Any], view: View, console: Console, height: int | None = None
) -> RenderableType:
    """A snapshot as tables.

    Args:
        snapshot: the result of `Machine.snapshot`.
        view: what the user chose, and the histories.
        console: to fit.
        height: lines of a screen, for the live view; None prints everything one below the other.
    """
    parts: list[RenderableType] = [_title(snapshot), *_host(snapshot)]
    names = {device["id"]: device["index"] for device in snapshot["devices"]}
    shown = _shown_devices(snapshot, view, height)
    devices = _devices(shown, view, console.width)
    rows = view.rows(snapshot)
    inferences = _inferences(rows, names, console.width)
    listed = _processes([one for one in snapshot["processes"] if _matches(view, one)], names)
    if height is None:
        for columns in (devices, inferences, listed):
            if columns[0].cells:
                parts += [Text(), *blocks(columns, console)]
        if not snapshot["inferences"]:
            parts += [Text(), Text(_HINT, "dim")]
        return Group(*parts)
    keys = _keys(view)
    if devices[0].cells:
        parts += [*_screen_of(devices, shown, console.width), Text()]
    left = height - _lines(Group(*parts, keys), console)
    chosen = listed if view.processes else inferences
    if chosen[0].cells:
        names_rows = (0, 1) if view.processes or console.width >= _WIDE else (0,)
        parts += _scrolled(chosen, names_rows, view, console, left)
    elif snapshot["inferences"] or view.processes:
        parts.append(Text(f"Nothing matches {view.filter!r}." if view.filter else "None.", "dim"))
    else:
        parts.append(Text(_HINT, "dim"))
    return Group(*parts, keys)


def _title(snapshot: dict[str, Any]) -> Text:
    at = time.strftime("%H:%M:%S", time.localtime(snapshot["unix_time"]))
    title = Text.assemble(("warpspan top", "bold"), f"  {at}")
    if snapshot["driver"]:
        title.append(f"  driver {snapshot['driver']}, CUDA {snapshot['cuda'] or '–'}", "dim")
    if snapshot["problem"] and not snapshot["devices"]:
        title.append(f"  no GPU: {snapshot['problem']}", "dim")
    elif snapshot["problem"]:
        title.append(f"\nThe driver does not answer: {snapshot['problem']}.", "red")
    title.no_wrap, title.overflow = False, "fold"
    return title


def _host(snapshot: dict[str, Any]) -> list[Text]:
    load, cores = snapshot["load"], snapshot["cpu_count"]
    if load is None or not cores:
        return []
    return [
        Text.assemble("CPU ", bar(load / cores, 10), f" load {load:.2f} on {plural(cores, 'core')}")
    ]


def _shown_devices(
    snapshot: dict[str, Any], view: View, height: int | None
) -> list[dict[str, Any]]:
    """All, or GPUs alone where their MIG instances are folded and a screen has no room for them."""
    devices: list[dict[str, Any]] = snapshot["devices"]
    if height is None or not view.folded or len(devices) <= height // 2:
        return devices
    return [device for device in devices if "." not in device["index"]]


def _screen_of(
    columns: Sequence[Column], devices: Sequence[dict[str, Any]], width: int
) -> list[RenderableType]:
    """The devices on a screen: a line each, or several in a line where these are too many."""
    if len(devices) <= (2 if width < 80 else 10):
        table, missing = one_block(columns, width)
        return [table, *_missing(missing)]
    index_width = max(len(device["index"]) for device in devices)
    cells = [
        Text.assemble(
            (f"{device['index']:>{index_width}} ", "bold"),
            _gauge(busy(device), 6) or Text(f"{ABSENT:>11}"),
            f" {_whole_memory(device)}",
        )
        for device in devices
    ]
    wide = max(map(len, cells)) + 2
    grid = Table.grid()
    in_line = max(1, (width + 2) // wide)
    for _ in range(in_line):
        grid.add_column(width=wide)
    for at in range(0, len(cells), in_line):
        grid.add_row(*cells[at : at + in_line])
    return [Text("GPU: SM in use (without GPM: kernels running), memory", "dim"), grid]


def _devices(rows: Sequence[dict[str, Any]], view: View, width: int) -> list[Column]:
    bar_width = 10 if width >= 100 else 6

    def cells(cell: Callable[[dict[str, Any]], Cell]) -> list[Cell]:
        return [cell(row) for row in rows]

    def part(name: str) -> list[Cell]:
        return cells(lambda row: None if row[name] is None else share(row[name]))

    return [
        Column("GPU", cells(lambda row: row["index"]), is_text=True),
        Column("SM", cells(lambda row: _gauge(row["sm_utilization"], bar_width)), is_text=True),
        Column("kernels", cells(lambda row: _gauge(row["utilization"], bar_width)), is_text=True),
        Column("memory", cells(lambda row: _memory(row, bar_width)), is_text=True),
        Column("power", cells(lambda row: _number(row["power_w"], "{:.0f} W"))),
        Column("temp.", cells(_temperature)),
        Column("throttled by", cells(lambda row: _throttle(row, rows)), is_text=True),
        Column("tensor", part("tensor_utilization")),
        Column("DRAM", part("dram_utilization")),
        Column("clock", cells(lambda row: _number(row["sm_clock_hz"], "{:.0f} MHz", 1e-6))),
        Column("occupancy", part("sm_occupancy")),
        Column("model", cells(_model), is_text=True),
        Column(
            "last minute",
            cells(lambda row: sparkline(view.history(row["id"]), 20, 1.0)),
            is_text=True,
        ),
    ]


def _inferences(rows: Sequence[Row], names: dict[str, str], width: int) -> list[Column]:
    spark = 20 if width >= 100 else 10

    def cells(cell: Callable[[Row], Cell]) -> list[Cell]:
        return [cell(row) for row in rows]

    return [
        *_names(rows, width),
        Column("rate/s", cells(lambda row: _maybe(row.rate, rate))),
        Column("p50", cells(lambda row: _maybe(row.p50_s, seconds))),
        Column("p95", cells(lambda row: _maybe(row.p95_s, seconds))),
        Column("last minute", cells(lambda row: sparkline(row.history, spark)), is_text=True),
        Column("GPU-s", cells(lambda row: _maybe(row.gpu_s, seconds))),
        Column("energy", cells(lambda row: _maybe(row.joules, joules))),
        Column("tokens/s", cells(lambda row: _maybe(row.tokens, rate))),
        Column("queue", cells(lambda row: _maybe(row.queue_s, seconds))),
        Column("processor", cells(lambda row: _maybe(row.cpu_s, seconds))),
        Column("failed", cells(lambda row: _failed(row, rows))),
        Column("pid", cells(_pid)),
        Column("device", cells(lambda row: _places(row, names)), is_text=True),
    ]


def _names(rows: Sequence[Row], width: int) -> list[Column]:
    """Two columns where there is room, else one."""
    services = [printable(row.service) for row in rows]
    inferences = [Text(printable(row.name), "bold") for row in rows]
    if width >= _WIDE:
        return [Column("service", services, True), Column("inference", inferences, True)]
    both = [
        Text.assemble(f"{one} ", other) for one, other in zip(services, inferences, strict=True)
    ]
    return [Column("service, inference", both, True)]


def _processes(rows: Sequence[dict[str, Any]], names: dict[str, str]) -> list[Column]:
    ordered = sorted(
        rows, key=lambda row: (not row["instrumented"], -(row["inferences_per_s"] or 0))
    )

    def cells(cell: Callable[[dict[str, Any]], Cell]) -> list[Cell]:
        return [cell(row) for row in ordered]

    def value(name: str, form: Callable[[Any], str]) -> list[Cell]:
        return cells(lambda row: _maybe(row[name], form))

    return [
        Column("pid", cells(lambda row: str(row["pid"]))),
        Column("process", cells(lambda row: printable(row["service"] or "")), is_text=True),
        Column("GPU", cells(lambda row: names.get(row["device_id"])), is_text=True),
        Column("memory", value("memory_used_bytes", size)),
        Column("rate/s", value("inferences_per_s", rate)),
        Column("open", value("open", str)),
        Column("GPU-s", value("gpu_s_per_inference", seconds)),
        Column("energy", value("joules_per_inference", joules)),
        Column("SM cycles active", value("cycles_active_per_inference", cycles)),
        Column("SM cycles clock", value("cycles_elapsed_per_inference", cycles)),
    ]


def _scrolled(
    columns: Sequence[Column], keys: Sequence[int], view: View, console: Console, height: int
) -> list[RenderableType]:
    """One table with the rows that the screen has room for, and a line on what it leaves out."""
    count = len(columns[0].cells)
    for room in range(max(1, height - _HEAD - 1), 0, -1):
        view.offset = max(0, min(view.offset, count - room))
        until = view.offset + room
        shown = [one._replace(cells=one.cells[view.offset : until]) for one in columns]
        table, missing = one_block(shown, console.width, keys)
        notes = []
        if room < count:
            notes.append(f"{view.offset + 1} to {min(until, count)} of {count} (↑ ↓)")
        if missing:
            notes.append(f"no room for {', '.join(missing)}")
        parts: list[RenderableType] = [table]
        if notes:
            parts.append(Text("; ".join(notes), "dim"))
        if _lines(Group(*parts), console) <= height:
            break
    return parts


def _lines(renderable: RenderableType, console: Console) -> int:
    return len(console.render_lines(renderable, pad=False))


def _missing(headings: Sequence[str]) -> list[Text]:
    return [Text(f"no room for {', '.join(headings)}", "dim")] if headings else []


def _keys(view: View) -> Text:
    if view.typing:
        return Text.assemble("filter: ", (view.filter + "▏", "bold"), ("  enter, esc", "dim"))
    order = f"{ORDERS[view.order].name} {'▲' if view.reversed else '▼'}"
    line = Text()
    for key, meaning in (
        ("q", "quit"),
        ("s", order),
        ("r", "reverse"),
        ("/", view.filter or "filter"),
        ("f", "unfold" if view.folded else "fold"),
        ("p", "calls" if view.processes else "processes"),
    ):
        line.append(key, "reverse")
        line.append(f" {meaning}  ")
    return line


def _matches(view: View, process: dict[str, Any]) -> bool:
    return view.matches(process["service"] or "", str(process["pid"]))


def _maybe(value: Any, form: Callable[[Any], str]) -> str | None:
    return None if value is None else form(value)


def _number(value: float | None, form: str, scale: float = 1.0) -> str | None:
    return None if value is None else form.format(value * scale)


def _gauge(value: float | None, width: int) -> Text | None:
    return None if value is None else Text.assemble(bar(value, width), f"{share(value):>5}")


def _memory(row: dict[str, Any], width: int) -> Text | None:
    used, limit = row["memory_used_bytes"], row["memory_total_bytes"]
    if used is None or not limit:
        return None
    return Text.assemble(bar(used / limit, width), f" {used / 2**30:.1f}/{limit / 2**30:.0f} GiB")


def _whole_memory(row: dict[str, Any]) -> str:
    used, limit = row["memory_used_bytes"], row["memory_total_bytes"]
    if used is None or not limit:
        return ""
    return f"{used / 2**30:.0f}/{limit / 2**30:.0f} GiB"


def _temperature(row: dict[str, Any]) -> Text | None:
    value = row["temperature_c"]
    return None if value is None else Text(f"{value:.0f} °C", "red" if value >= _HOT_C else "")


def _throttle(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> Text | None:
    reasons = row["throttle_reasons"]
    if reasons is None or not any(one["throttle_reasons"] for one in rows):
        return None
    words = ", ".join(_SHORT.get(reason, reason.replace("_", " ")) for reason in reasons)
    return Text(words, "yellow") if words else Text("none", "dim")


def _model(row: dict[str, Any]) -> str | None:
    name: str | None = row["name"]
    return None if name is None else printable(name.removeprefix("NVIDIA "))


def _failed(row: Row, rows: Sequence[Row]) -> Text | None:
    if not any(one.failed for one in rows):
        return None
    return Text(f"{row.failed:,}", "red" if row.failed else "dim")


def _pid(row: Row) -> str:
    return str(row.pids[0]) if len(row.pids) == 1 else f"{len(row.pids)} processes"


def _places(row: Row, names: dict[str, str]) -> str:
    known = [f"GPU {names[place]}" if place in names else place for place in row.devices]
    return printable(", ".join(known))
