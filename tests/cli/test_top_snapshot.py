"""What a snapshot has: devices, instances, processes, and rates out of counts."""

from __future__ import annotations

import pytest

from warpspan.cli import top_snapshot
from warpspan.cli.top_snapshot import Machine
from warpspan.device import driver
from warpspan.emit import status


class Driver(driver.NoDriver):
    """One GPU, one MIG GPU with an instance, and a process on each."""

    def __init__(self):
        super().__init__("")
        self.problem = None

    def open(self):
        return True

    def gpus(self):
        from warpspan.device.driver import Gpu, Instance

        instance = Instance("MIG-0", 1, 0, "1g.10gb")
        return [Gpu("GPU-0", "1", "A"), Gpu("GPU-1", "2", "B", mig=True, instances=(instance,))]

    def processes(self, uuid):
        from warpspan.device.driver import Process

        pids = {"GPU-0": [41], "GPU-1": [42], "MIG-0": [42]}
        return [Process(pid, 5) for pid in pids[uuid]]


@pytest.fixture
def told(monkeypatch):
    """What processes tell, set by the test; the time is 100.5."""
    held = []
    monkeypatch.setattr(status, "watch", lambda environ: True)
    monkeypatch.setattr(status, "read", lambda environ: list(held))
    monkeypatch.setattr(top_snapshot.time, "time", lambda: 100.5)
    return held


def process(pid=41, at=100.0, devices=(), **counts):
    """A process with one model, as it tells of itself."""
    values = {
        "operation": "forward",
        "model": "Net",
        "device": "cpu",
        "inferences": 0,
        "failed": 0,
        "tokens": None,
        "sums": {},
        "durations_s": [],
    }
    return {
        "pid": pid,
        "service": "shop",
        "unix_time": at,
        "since": 90.0,
        "devices": list(devices),
        "inferences": [values | counts],
    }


def test_devices_and_processes(told):
    """Instances stand below their GPU; processes that tell are joined with what the driver lists."""
    told += [
        {**process(41, devices=[{"id": "GPU-0", "inferences_per_s": 3.0}]), "inferences": []},
        {**process(77, devices=[{"id": "MIG-0"}]), "service": "box", "inferences": []},
    ]
    snapshot = Machine(Driver()).snapshot()
    assert [("0", "A"), ("1", "B"), ("1.0", "MIG 1g.10gb")] == [
        (device["index"], device["name"]) for device in snapshot["devices"]
    ]
    assert [
        (41, "GPU-0", "shop", True, 3.0),
        (42, "MIG-0", None, False, None),
        (77, "MIG-0", "box", True, None),
    ] == [
        (
            one["pid"],
            one["device_id"],
            one["service"] if one["instrumented"] else None,
            one["instrumented"],
            one["inferences_per_s"],
        )
        for one in snapshot["processes"]
    ]


def test_rates_are_between_two_files_of_a_process(told):
    """The first one counts from when it began to look; means are of the inferences in between."""
    machine = Machine(driver.NoDriver(""))
    told.append(process(inferences=20, tokens=100, sums={"cpu_s": [2.0, 20], "gpu_s": [1.0, 2]}))
    (row,) = machine.snapshot()["inferences"]
    assert (2.0, 10.0, 0.1, 0.5, None) == (
        row["inferences_per_s"],
        row["tokens_per_s"],
        row["cpu_s_per_inference"],
        row["gpu_s_per_inference"],
        row["joules_per_inference"],
    )
    told[:] = [
        process(at=102.0, inferences=30, tokens=100, sums={"cpu_s": [5.0, 30], "gpu_s": [1.0, 2]})
    ]
    (row,) = machine.snapshot()["inferences"]
    assert (5.0, 0.0, 0.3, 0.5) == (
        row["inferences_per_s"],
        row["tokens_per_s"],
        row["cpu_s_per_inference"],
        row["gpu_s_per_inference"],  # none was measured since: the latest that is known
    )


def test_a_file_that_was_not_written_again(told, monkeypatch):
    """For a moment the rate stays; then no inference has ended since."""
    machine = Machine(driver.NoDriver(""))
    told.append(process(inferences=20, tokens=100))
    assert [2.0] == [one["inferences_per_s"] for one in machine.snapshot()["inferences"]]
    assert [2.0] == [one["inferences_per_s"] for one in machine.snapshot()["inferences"]]
    monkeypatch.setattr(top_snapshot.time, "time", lambda: 103.0)
    assert [(0.0, 0.0)] == [
        (one["inferences_per_s"], one["tokens_per_s"]) for one in machine.snapshot()["inferences"]
    ]


def test_a_process_that_ended_is_gone(told):
    """And so is what was known of it: its number may be used again."""
    machine = Machine(driver.NoDriver(""))
    told.append(process(inferences=20))
    machine.snapshot()
    told.clear()
    assert [] == machine.snapshot()["inferences"]
    assert {} == machine._inferences._before
