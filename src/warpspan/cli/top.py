"""`warpspan top`: the GPUs of this machine and the instrumented processes on them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.live import Live

from warpspan.cli.finding import unlogged
from warpspan.cli.report import output_console
from warpspan.cli.top_view import render
from warpspan.config import environment
from warpspan.device import discovery, status
from warpspan.device.driver import Driver, Gpu, Reader
from warpspan.records import DeviceSample

_REFRESH_S = 1.0
# GPM needs two samples at least 100 ms apart.
_GPM_S = 0.2
# A process looks once a second whether somebody asks, and knows rates from the second time on.
_FIRST_S = 2.4


class CannotShowError(Exception):
    """There is nothing to show; the message says why and what to do."""


class Machine:
    """Takes snapshots of the machine. Keep one: rates and shares are since the snapshot before.

    Args:
        driver: of its GPUs.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        if not driver.open():
            raise CannotShowError(f"no GPU can be shown: {driver.problem}")
        self._gpus = driver.gpus()
        if not self._gpus:
            raise CannotShowError("the NVIDIA driver shows no GPU to this process")
        self._readers: dict[str, Reader] = {}

    def snapshot(self) -> dict[str, Any]:
        """The devices and processes now, as one JSON value."""
        status.watch(environment())
        reported = status.read(environment())
        return {
            "unix_time": time.time(),
            "driver": self._driver.version(),
            "cuda": self._driver.cuda_version(),
            "problem": self._driver.problem,
            "devices": [device for gpu in self._gpus for device in self._devices(gpu)],
            "processes": list(self._processes(reported)),
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


def top(*, as_json: bool, once: bool) -> None:
    """Show the machine until the user ends it, or once.

    Raises:
        CannotShowError: there is nothing to show.
    """
    driver = discovery.open_driver()
    try:
        with unlogged():
            _top(driver, as_json=as_json, once=once)
    finally:
        driver.close()


def _top(driver: Driver, *, as_json: bool, once: bool) -> None:
    machine = Machine(driver)
    console = output_console(stderr=False)
    if as_json or once or not console.is_terminal:
        machine.snapshot()
        time.sleep(_FIRST_S)
        while True:
            snapshot = machine.snapshot()
            if as_json:
                print(json.dumps(snapshot), flush=True)
            else:
                console.print(render(snapshot, _width(console)))
            if once or not as_json:
                return
            time.sleep(_REFRESH_S)
    machine.snapshot()
    time.sleep(_GPM_S)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(machine.snapshot(), _width(console), live=True), refresh=True)
            time.sleep(_REFRESH_S)


def _width(console: Console) -> int:
    return min(console.width, 120)
