"""What `warpspan top` shows: the devices as their driver sees them, processes as they tell."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from warpspan.config import environment
from warpspan.device.driver import Driver, Gpu, Reader
from warpspan.emit import status
from warpspan.records import DeviceSample

#: A process without a GPU writes after an inference only: what is older has none since.
_QUIET_S = 2.5
_MEANS = ("cpu_s", "queue_s", "gpu_s", "joules")


class Machine:
    """Takes snapshots of the machine. Keep one: rates and shares are since the snapshot before.

    Args:
        driver: of its GPUs; without one only processes are shown.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._gpus = driver.gpus() if driver.open() else []
        self._readers: dict[str, Reader] = {}
        self._inferences = _Inferences()

    def snapshot(self) -> dict[str, Any]:
        """The devices, processes and inferences now, as one JSON value."""
        status.watch(environment())
        reported = status.read(environment())
        return {
            "unix_time": time.time(),
            "driver": self._driver.version() if self._gpus else None,
            "cuda": self._driver.cuda_version() if self._gpus else None,
            "problem": self._driver.problem,
            "cpu_count": os.cpu_count(),
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "devices": [device for gpu in self._gpus for device in self._devices(gpu)],
            "processes": list(self._processes(reported)),
            "inferences": list(self._inferences.of(reported)),
        }

    def _devices(self, gpu: Gpu) -> Iterator[dict[str, Any]]:
        index = self._gpus.index(gpu)
        yield {
            "index": str(index),
            "name": gpu.name,
            **_sampled(self._read(gpu.uuid)),
        }
        for place, instance in enumerate(gpu.instances):
            yield {
                "index": f"{index}.{place}",
                "name": f"MIG {instance.profile or ''}".rstrip(),
                **_sampled(self._read(instance.uuid)),
            }

    def _read(self, uuid: str) -> DeviceSample:
        reader = self._readers.get(uuid)
        if reader is None:
            reader = self._readers[uuid] = self._driver.reader(uuid)
        return reader.read(time.perf_counter_ns(), slowly=True)

    def _processes(self, reported: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Those that the driver lists, with their own reports; then those that it does not list."""
        by_place = {
            (process["pid"], device["id"]): (process, device)
            for process in reported
            for device in process["devices"]
        }
        for gpu in self._gpus:
            for uuid in (gpu.uuid, *(instance.uuid for instance in gpu.instances)):
                for process in self._driver.processes(uuid) or ():
                    mine = by_place.pop((process.pid, uuid), None)
                    if mine is None and uuid == gpu.uuid and gpu.mig:
                        continue  # listed again for its instance
                    yield _process(process.pid, uuid, process.used_bytes, mine)
        for (pid, uuid), mine in by_place.items():
            yield _process(pid, uuid, None, mine)


def _sampled(sample: DeviceSample) -> dict[str, Any]:
    values = {**sample._asdict(), "id": sample.device_id}
    for name in ("taken_ns", "cost_s", "skew_s", "device_id"):
        del values[name]
    return values


def _process(
    pid: int,
    uuid: str,
    used_bytes: int | None,
    reported: tuple[dict[str, Any], dict[str, Any]] | None,
) -> dict[str, Any]:
    process, device = reported or ({}, {})
    return {
        "pid": pid,
        "device_id": uuid,
        "instrumented": reported is not None,
        "service": process.get("service") or _command(pid),
        "memory_used_bytes": used_bytes,
        **{
            name: device.get(name)
            for name in (
                "open",
                "inferences",
                "inferences_per_s",
                "gpu_s_per_inference",
                "cycles_active_per_inference",
                "cycles_elapsed_per_inference",
                "joules_per_inference",
            )
        },
    }


def _command(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:  # noqa: PTH123
            return stream.read().strip() or None
    except OSError:
        return None


class _Inferences:
    """Rates and means out of the counts that processes tell."""

    def __init__(self) -> None:
        self._before: dict[tuple[Any, ...], tuple[float, dict[str, Any]]] = {}
        self._rows: dict[tuple[Any, ...], dict[str, Any]] = {}

    def of(self, reported: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """One row per process, operation, model and device."""
        now_s, seen = time.time(), set()
        for process in reported:
            for told in process.get("inferences", ()):
                names = ("operation", "model", "device")
                key = (process["pid"], process["since"], *(told[name] for name in names))
                seen.add(key)
                row = self._row(key, process["unix_time"], process["since"], told)
                if now_s - process["unix_time"] > _QUIET_S:
                    row |= {"inferences_per_s": 0.0, "tokens_per_s": told["tokens"] and 0.0}
                yield {
                    "pid": process["pid"],
                    "service": process["service"],
                    "operation": told["operation"],
                    "model": told["model"],
                    "device_id": told["device"],
                    **row,
                }
        for gone in self._before.keys() - seen:
            del self._before[gone], self._rows[gone]

    def _row(
        self, key: tuple[Any, ...], at_s: float, since_s: float, told: dict[str, Any]
    ) -> dict[str, Any]:
        nothing = {"inferences": 0, "failed": 0, "tokens": 0, "sums": {}}
        before_s, before = self._before.get(key, (since_s, nothing))
        if at_s <= before_s:
            return dict(self._rows.get(key, _row(told)))
        passed_s = at_s - before_s
        row = _row(told)
        row["inferences_per_s"] = (told["inferences"] - before["inferences"]) / passed_s
        if told["tokens"] is not None:
            row["tokens_per_s"] = (told["tokens"] - (before["tokens"] or 0)) / passed_s
        for name in _MEANS:
            total, number = told["sums"].get(name, (0.0, 0))
            total_before, number_before = before["sums"].get(name, (0.0, 0))
            if number > number_before:
                mean = (total - total_before) / (number - number_before)
                row[f"{name}_per_inference"] = mean
            elif key in self._rows:  # the latest that is known
                row[f"{name}_per_inference"] = self._rows[key][f"{name}_per_inference"]
        self._before[key], self._rows[key] = (at_s, told), row
        return dict(row)


def _row(told: dict[str, Any]) -> dict[str, Any]:
    return {
        "inferences": told["inferences"],
        "failed": told["failed"],
        "durations_s": told["durations_s"],
        "inferences_per_s": None,
        "tokens_per_s": None,
        **{f"{name}_per_inference": None for name in _MEANS},
    }
