"""`warpspan top`: devices as the driver sees them, processes as they tell."""

import json

import pytest
from rich.console import Console

from warpspan.cli import top
from warpspan.cli.top_view import render
from warpspan.device import discovery, driver

DEVICE = {
    "index": "0",
    "id": "GPU-0",
    "name": "NVIDIA H100 80GB HBM3",
    "energy_j": 1.0,
    "power_w": 512.4,
    "temperature_c": 61,
    "sm_clock_hz": 1.755e9,
    "throttle_reasons": ("sw_power_cap",),
    "utilization": 0.9,
    "memory_used_bytes": 9 << 30,
    "memory_total_bytes": 80 << 30,
    "sm_utilization": 0.5,
    "sm_occupancy": 0.25,
    "tensor_utilization": 0.4,
    "dram_utilization": None,
}
SHOP = {
    "pid": 41,
    "device_id": "GPU-0",
    "instrumented": True,
    "service": "shop",
    "memory_used_bytes": 1 << 30,
    "open": 2,
    "inferences": 7,
    "inferences_per_s": 123.4,
    "gpu_s_per_inference": 0.0118,
    "cycles_active_per_inference": 1.18e9,
    "cycles_elapsed_per_inference": 2.07e7,
    "joules_per_inference": 0.4,
}
OTHER = {**dict.fromkeys(SHOP), "pid": 9, "device_id": "GPU-0", "instrumented": False}
PICTURE = {
    "driver": "570.86.15",
    "cuda": "12.8",
    "problem": None,
    "devices": [DEVICE],
    "processes": [OTHER, SHOP],
}


def shown(picture, width):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(render(picture, width))
    return console.export_text()


def test_a_picture_on_a_wide_terminal():
    """Every value, with its unit; what is not known is a dash."""
    text = shown(PICTURE, 120)
    for words in (
        "driver 570.86.15, CUDA 12.8",
        "H100 80GB HBM3",
        "9.0/80 GiB",
        "512 W",
        "1755 MHz",
        "61 °C",
        "power cap",
        "1.18 G",
        "20.7 M",
        "11.8 ms",
        "400 mJ",
    ):
        assert words in text
    [line] = [line for line in text.splitlines() if "shop" in line]
    assert ["41", "0", "shop", "1.00", "GiB", "123", "2"] == line.split()[:7]
    assert "9" == text.splitlines()[-1].split()[0]  # those that tell come first


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits(width):
    """No line is wider than the terminal, and no heading is cut."""
    text = shown({**PICTURE, "devices": [DEVICE, {**DEVICE, "index": "1.0"}]}, width)
    assert max(map(len, text.splitlines())) <= width
    assert "SM cycles/inf" in text


def test_no_process_tells():
    """It says how to start one that does."""
    text = shown({**PICTURE, "processes": [OTHER]}, 120)
    assert "No instrumented process of yours" in text
    assert "No process is using these GPUs" in shown({**PICTURE, "processes": []}, 120)


def test_a_driver_that_stops_answering():
    """The reason is on the screen."""
    assert "the GPU fell off the bus" in shown(
        {**PICTURE, "problem": "the GPU fell off the bus"}, 80
    )


def test_nothing_to_show(monkeypatch):
    """One sentence that says why and what to do."""
    monkeypatch.setattr(discovery, "open_driver", lambda: driver.NoDriver(driver.LIBRARY_MISSING))
    with pytest.raises(top.CannotShowError, match="install the NVIDIA driver"):
        top.top(as_json=False, once=True)


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


def test_once_as_json(monkeypatch, capsys):
    """One object with the devices, instances and processes, and what a process told."""
    told = {"pid": 41, "service": "shop", "devices": [{"id": "GPU-0", "inferences_per_s": 3.0}]}
    alone = {"pid": 77, "service": "box", "devices": [{"id": "MIG-0"}]}
    monkeypatch.setattr(discovery, "open_driver", Driver)
    monkeypatch.setattr(top.status, "watch", lambda environ: True)
    monkeypatch.setattr(top.status, "read", lambda environ: [told, alone])
    monkeypatch.setattr(top.time, "sleep", lambda seconds: None)
    top.top(as_json=True, once=True)
    picture = json.loads(capsys.readouterr().out)
    assert [("0", "A"), ("1", "B"), ("1.0", "MIG 1g.10gb")] == [
        (device["index"], device["name"]) for device in picture["devices"]
    ]
    assert [
        (41, "GPU-0", "shop", True, 3.0),
        (42, "MIG-0", None, False, None),
        (77, "MIG-0", "box", True, None),
    ] == [
        (
            process["pid"],
            process["device_id"],
            process["service"] if process["instrumented"] else None,
            process["instrumented"],
            process["inferences_per_s"],
        )
        for process in picture["processes"]
    ]
