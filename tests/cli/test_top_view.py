"""The screen of `warpspan top`: every size of terminal, many GPUs, MIG, none."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from warpspan.cli.top_state import View
from warpspan.cli.top_view import render

DEVICE = {
    "index": "0",
    "id": "GPU-0",
    "name": "NVIDIA H100 80GB HBM3",
    "power_w": 512.4,
    "temperature_c": 61,
    "sm_clock_hz": 1.755e9,
    "throttle_reasons": ("sw_power_cap", "sw_thermal_slowdown"),
    "utilization": 0.9,
    "memory_used_bytes": 79 << 30,
    "memory_total_bytes": 80 << 30,
    "sm_utilization": 0.5,
    "sm_occupancy": 0.25,
    "tensor_utilization": 0.4,
    "dram_utilization": 0.31,
}
SHOP = {
    "pid": 4194301,
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
CALLS = {
    "pid": 4194301,
    "service": "search-ranking-service-production",
    "operation": "diffusion",
    "model": "StableDiffusionXLControlNetPipeline",
    "device_id": "GPU-0",
    "inferences": 7,
    "failed": 12_345,
    "durations_s": [0.111, 1.23],
    "inferences_per_s": 1834.2,
    "tokens_per_s": 51_200.0,
    "cpu_s_per_inference": 0.0123,
    "queue_s_per_inference": 0.000456,
    "gpu_s_per_inference": 0.0118,
    "joules_per_inference": 0.789,
}
SNAPSHOT = {
    "unix_time": 0.0,
    "driver": "570.86.15",
    "cuda": "12.8",
    "problem": None,
    "cpu_count": 16,
    "load": 9.3,
    "devices": [DEVICE],
    "processes": [OTHER, SHOP],
    "inferences": [CALLS],
}
#: Columns of inferences by their headings, with the value that each has.
VALUES = {
    "rate/s": "1,834",
    "p50": "111 ms",
    "p95": "1.23 s",
    "GPU-s": "11.8 ms",
    "energy": "789 mJ",
    "tokens/s": "51,200",
    "queue": "456 µs",
    "processor": "12.3 ms",
    "failed": "12,345",
    "pid": "4194301",
}
DEVICE_VALUES = {
    "SM": "50%",
    "kernels": "90%",
    "memory": "79.0/80 GiB",
    "power": "512 W",
    "temp.": "61 °C",
    "clock": "1755 MHz",
    "DRAM": "31%",
    "occupancy": "25%",
}


def many(count, instances=0):
    """A snapshot of a machine with many GPUs, and instances of each."""
    devices = []
    for number in range(count):
        devices.append({**DEVICE, "index": str(number), "id": f"GPU-{number}"})
        devices += [
            {**DEVICE, "index": f"{number}.{place}", "id": f"MIG-{number}-{place}"}
            for place in range(instances)
        ]
    inferences = [{**CALLS, "service": f"service-{number}", "pid": number} for number in range(20)]
    return {**SNAPSHOT, "devices": devices, "inferences": inferences}


def lines(snapshot, width, height=None, view=None):
    """What is on the screen."""
    console = Console(width=width, height=height or 24, file=io.StringIO(), color_system=None)
    view = view or View()
    view.note(snapshot)
    console.print(render(snapshot, view, console, height))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 150, 200])
def test_everything_once(width):
    """Printed once, every value is there, whole; no line is too long."""
    shown = lines(SNAPSHOT, width)
    assert max(map(len, shown)) <= width
    text = "\n".join(shown)
    for value in (*VALUES.values(), *DEVICE_VALUES.values(), "1.18 G", "20.7 M", "1.00 GiB"):
        assert value in text
    assert "…" not in text


@pytest.mark.parametrize("width", [60, 80, 100, 150, 200])
@pytest.mark.parametrize("gpus", [0, 1, 8])
def test_a_screen_of_24_lines(width, gpus):
    """It fits; a value is there whole, or its column is named as left out."""
    snapshot = many(gpus)
    shown = lines(snapshot, width, 24)
    assert len(shown) <= 24
    assert max(map(len, shown)) <= width
    text = " ".join(" ".join(line.split()) for line in shown)
    left_out = " ".join(text.partition("of 20")[2].partition("no room for")[2].split())
    for heading, value in VALUES.items():
        if heading != "pid":
            assert (value in text) != (heading in left_out)
    assert "service-0" in text
    assert "q quit" in shown[-1]


@pytest.mark.parametrize("width", [60, 100, 200])
def test_mig(width):
    """Instances of eight GPUs are folded into their GPUs; unfolded they share lines."""
    view = View()
    snapshot = many(8, instances=7)
    shown = lines(snapshot, width, 24, view)
    assert len(shown) <= 24
    view.press("f")
    shown = lines(snapshot, width, 60, view)
    assert max(map(len, shown)) <= width
    assert len(shown) <= 60
    assert "7.6" in "\n".join(shown)


def test_scrolling():
    """The rows that have no room are counted, and come with the arrows, up to the last one."""
    view = View()
    snapshot = many(1)
    assert "1 to " in "\n".join(lines(snapshot, 200, 24, view))
    for _ in range(100):
        view.press("down")
    text = "\n".join(lines(snapshot, 200, 24, view))
    assert "to 20 of 20" in text
    assert "service-9" in text


def test_processes():
    """The other table, on demand; those that tell come first."""
    view = View()
    view.press("p")
    shown = lines(SNAPSHOT, 120, 24, view)
    rows = [line.split()[0] for line in shown if line.strip().startswith(("4194301", "9 "))]
    assert ["4194301", "9"] == rows
    assert "1.18 G" in "\n".join(shown)


def test_without_a_gpu():
    """The reason, the load of the processor, and the inferences."""
    reason = "libnvidia-ml.so.1 was not found"
    calls = {**CALLS, "device_id": "cpu", "gpu_s_per_inference": None}
    snapshot = {**SNAPSHOT, "devices": [], "problem": reason, "inferences": [calls]}
    text = "\n".join(lines({**snapshot, "driver": None}, 200, 24))
    for words in (f"no GPU: {reason}", "load 9.30 on 16 cores", "1,834", "cpu"):
        assert words in text
    assert "GPU-s" not in text


def test_nobody_tells():
    """It says how to start a program that does, and what the filter leaves."""
    text = "\n".join(lines({**SNAPSHOT, "inferences": []}, 120, 24))
    assert "No instrumented process of yours" in text
    view = View()
    for key in ("/", *"nobody"):
        view.press(key)
    assert "Nothing matches 'nobody'." in "\n".join(lines(SNAPSHOT, 120, 24, view))


def test_a_driver_that_stops_answering():
    """The reason is on the screen."""
    problem = "the GPU fell off the bus"
    assert problem in "\n".join(lines({**SNAPSHOT, "problem": problem}, 80, 24))


def test_names_can_not_steer_the_terminal():
    """Control characters of a name are shown, not obeyed."""
    calls = {**CALLS, "service": "\x1b[31mshop", "model": "[red]Net"}
    text = "\n".join(lines({**SNAPSHOT, "inferences": [calls]}, 200, 24))
    assert "\x1b" not in text
    assert "diffusion [red]Net" in text
