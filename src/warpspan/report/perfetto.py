"""A run as a trace that ui.perfetto.dev and chrome://tracing open: Chrome's JSON trace events.

The format is
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU, whose times are
microseconds; here they count from the first event, so that no digit of the nanoseconds is lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, TextIO, TypeAlias

from warpspan.advisor.observation import Observation
from warpspan.records.units import printable
from warpspan.report.tracks import Group, Slice, lanes, tracks

_Event: TypeAlias = dict[str, Any]


def write_perfetto(observation: Observation, stream: TextIO) -> int:
    """Write a run as Chrome's trace events, one on a line, and return how many there are.

    Args:
        observation: the run.
        stream: a text file.
    """
    groups = tracks(observation)
    first_ns = min((at_ns for group in groups for at_ns in group.starts_ns()), default=0)
    stream.write('{"displayTimeUnit":"ns","otherData":')
    json.dump({"start_unix_ns": str(first_ns), "writer": "warpspan"}, stream)
    stream.write(',"traceEvents":[')
    total = 0
    for total, event in enumerate(_events(groups, first_ns), 1):
        stream.write("\n" if total == 1 else ",\n")
        json.dump(event, stream, separators=(",", ":"))
    stream.write("\n]}\n")
    return total


def _events(groups: Sequence[Group], first_ns: int) -> Iterator[_Event]:
    thread = len(groups)  # a thread whose id is that of a process is its main one
    for pid, group in enumerate(groups, 1):
        yield _metadata("process_name", pid, 0, name=printable(group.name))
        yield _metadata("process_sort_index", pid, 0, sort_index=pid)
        for track in group.ordered_tracks():
            for number, lane in enumerate(lanes(group.tracks[track]), 1):
                thread += 1
                name = track if number == 1 else f"{track} {number}"
                yield _metadata("thread_name", pid, thread, name=name)
                yield _metadata("thread_sort_index", pid, thread, sort_index=thread)
                for one in lane:
                    yield from _slice_events(one, track, pid, thread, first_ns)
        for counter, levels in group.counters.items():
            # A counter is shown by its name and the key of its value: the key is the unit.
            name, _, unit = printable(counter).rpartition(" (")
            for level in sorted(levels):
                yield {
                    "ph": "C", "name": name, "pid": pid, "ts": _us(level.at_ns - first_ns),
                    "args": {unit.rstrip(")"): level.value},
                }  # fmt: skip


def _slice_events(one: Slice, track: str, pid: int, tid: int, first_ns: int) -> Iterator[_Event]:
    event = {
        "ph": "X", "name": printable(one.name), "cat": track, "pid": pid, "tid": tid,
        "ts": _us(one.start_ns - first_ns), "dur": _us(one.end_ns - one.start_ns),
    }  # fmt: skip
    if one.details:
        event["args"] = one.details
    yield event
    if one.flow is not None:
        arrow = {
            "name": "launch",
            "cat": "flow",
            "id": one.flow,
            "pid": pid,
            "tid": tid,
            "ts": event["ts"],
        }
        yield {"ph": "s", **arrow} if track == "inferences" else {"ph": "f", "bp": "e", **arrow}


def _metadata(kind: str, pid: int, tid: int, **args: Any) -> _Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": args}


def _us(value_ns: int) -> float:
    return value_ns / 1000
