"""The checks of devices and their driver."""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from warpspan.cli.finding import Finding
from warpspan.device import discovery, identity
from warpspan.device.driver import Driver, Gpu
from warpspan.records import DeviceSample
from warpspan.records.units import plural, size

_GPM_PAUSE_S = 0.15
# Programs that hold or share the counters, by the name of their process (15 characters).
_PROFILERS = {
    "nv-hostengine": "DCGM's host engine",
    "dcgm-exporter": "dcgm-exporter",
    "ncu": "Nsight Compute",
    "nsys": "Nsight Systems",
    "nsys-launcher": "Nsight Systems",
}
_INJECTIONS = ("CUDA_INJECTION64_PATH", "NVTX_INJECTION64_PATH")


def has_device_files() -> bool:
    """Whether the kernel shows NVIDIA GPUs to this machine or container."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/proc/driver/nvidia/version").exists()


def nvml(environ: Mapping[str, str]) -> Iterator[Finding]:
    """The driver's library, and each device."""
    driver = discovery.open_driver()
    try:
        if not driver.open():
            yield _no_driver(driver)
            return
        version, cuda = driver.version(), driver.cuda_version()
        yield Finding("ok", "NVML", f"driver {version}, for CUDA up to {cuda}")
        gpus = driver.gpus()
        shown = identity.visible(gpus, environ.get(identity.VISIBLE), environ.get(identity.ORDER))
        yield _visible(gpus, shown, environ)
        if shown and importlib.util.find_spec("torch") is not None:
            yield from _torch(len(shown))
        yield from _folded([_gpu(driver, gpu) for gpu in gpus])
    finally:
        driver.close()


def _folded(gpus: list[_Gpu]) -> Iterator[Finding]:
    """What was found, once for GPUs of which it is the same."""
    alike: dict[tuple[Finding, ...], list[int]] = {}
    for index, gpu in enumerate(gpus):
        alike.setdefault(tuple(gpu.found), []).append(index)
    for found, indices in alike.items():
        subject = f"GPU {_ranges(indices)}"
        first, *rest = found
        times = f"{len(indices)} × " if len(indices) > 1 else ""
        yield first._replace(subject=subject, said=f"{times}{first.said}")
        yield from (one._replace(subject=subject) for one in rest)
        costs = [cost for i in indices if (cost := gpus[i].cost_s) is not None]
        if costs:
            most = "" if len(costs) == 1 else "up to "
            said = f"a sample takes {most}{max(costs) * 1e3:.2f} ms, on its own thread"
            yield Finding("ok", subject, said)


def _ranges(indices: list[int]) -> str:
    """`0-3, 5` for 0, 1, 2, 3 and 5."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _no_driver(driver: Driver) -> Finding:
    problem = driver.problem or "it does not answer"
    said, _, fix = problem.partition(": ")
    if has_device_files():
        return Finding(
            "error", "NVML", f"{said}, so energy, cycles and SM utilization are not reported", fix
        )
    return Finding(
        "note",
        "NVML",
        f"no NVIDIA GPU found ({said}): GPU metrics are off, as expected on a CPU machine",
    )


def _visible(gpus: list[Gpu], shown: list[str | None], environ: Mapping[str, str]) -> Finding:
    chosen = environ.get(identity.VISIBLE)
    setting = "" if chosen is None else f" ({identity.VISIBLE}={chosen})"
    if not shown:
        return Finding(
            "warning",
            "devices",
            f"CUDA shows 0 of {len(gpus)} GPUs to a program{setting}",
            f"unset {identity.VISIBLE}" if chosen is not None else "",
        )
    if None in shown:
        return Finding(
            "warning",
            "devices",
            "the GPUs are of several models, and before torch 2.5 their order is unknown",
            f"{identity.ORDER}=PCI_BUS_ID",
        )
    names = ", ".join(f"cuda:{index} is {uuid}" for index, uuid in enumerate(shown))
    return Finding("ok", "devices", f"{len(shown)} of {len(gpus)}{setting}: {names}")


def _torch(shown: int) -> Iterator[Finding]:
    """The same devices as torch sees them."""
    import torch

    seen = torch.cuda.device_count()
    if seen == 0:
        fix = (
            f"compare `nvidia-smi` with {identity.VISIBLE} and your torch build"
            if torch.version.cuda
            else "install a torch built with CUDA"
        )
        said = f"the driver reports {plural(shown, 'GPU')}, torch sees 0"
        yield Finding("error", "devices", said, fix)


class _Gpu(NamedTuple):
    """What was found of one GPU, and how long a sample of it took.

    Args:
        found: findings without their subject; the first one says what it is.
        cost_s: seconds, where a sample was taken.
    """

    found: list[Finding]
    cost_s: float | None = None


def _gpu(driver: Driver, gpu: Gpu) -> _Gpu:
    memory = "" if gpu.memory_bytes is None else f", {size(gpu.memory_bytes)}"
    if gpu.mig:
        if not gpu.instances:
            said = f"{gpu.name}{memory}: MIG is on, but no instance exists"
            return _Gpu([Finding("error", "", said, "nvidia-smi mig -cgi … -C")])
        profiles = ", ".join(instance.profile or "?" for instance in gpu.instances)
        said = (
            f"{gpu.name}{memory}: MIG {profiles}. The energy counter covers the whole device, so "
            "energy is not on spans"
        )
        found = [Finding("note", "", said)]
    else:
        found = [Finding("ok", "", f"{gpu.name}{memory}")]
    uuid = gpu.instances[0].uuid if gpu.mig else gpu.uuid
    reader = driver.reader(uuid)
    first = reader.read(time.perf_counter_ns())
    time.sleep(_GPM_PAUSE_S)
    second = reader.read(time.perf_counter_ns())
    found.append(_sm(driver, gpu, uuid, second))
    if not gpu.mig:
        found.append(_energy(first, second))
    if second.throttle_reasons:
        reasons = ", ".join(reason.replace("_", " ") for reason in second.throttle_reasons)
        found.append(Finding("note", "", f"throttling now: {reasons}"))
    return _Gpu(found, second.cost_s)


def _sm(driver: Driver, gpu: Gpu, uuid: str, sample: DeviceSample) -> Finding:
    if sample.sm_utilization is not None:
        return Finding("ok", "", "GPM: SM utilization, occupancy, tensor and DRAM activity")
    refused = {**driver.refusals(gpu.uuid), **driver.refusals(uuid)}
    for name in ("nvmlGpmSampleGet", "nvmlGpmMigSampleGet", "nvmlGpmQueryDeviceSupport"):
        if name in refused:
            said, _, fix = refused[name].partition(": ")
            return Finding("warning", "", f"the driver refuses GPM: {said}", fix)
    return Finding(
        "note", "", "no GPM (it needs Hopper or newer), so SM utilization is not reported"
    )


def _energy(first: DeviceSample, second: DeviceSample) -> Finding:
    if first.energy_j is not None and second.energy_j is not None:
        return Finding("ok", "", "energy counter")
    if second.power_w is not None:
        return Finding("note", "", "no energy counter: energy is computed as power × time")
    return Finding("warning", "", "no energy or power counter, so energy is not reported")


def other_profilers(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Other programs that use the counters."""
    found = sorted({name for name in _running() if name in _PROFILERS})
    for name in found:
        yield Finding(
            "warning",
            "profilers",
            f"{_PROFILERS[name]} is running and shares the SM counters: both may have gaps",
            "OTEL_PYTHON_WARPSPAN_HARDWARE_METRICS=off if DCGM exports the hw.* values",
        )
    for variable in _INJECTIONS:
        if environ.get(variable):
            yield Finding(
                "warning",
                "profilers",
                f"{variable} loads a profiler into every CUDA program",
                f"unset {variable}",
            )


def _running() -> Iterator[str]:
    if not Path("/proc").is_dir():  # macOS, Windows
        return
    for entry in os.scandir("/proc"):
        if re.fullmatch(r"\d+", entry.name):
            try:
                yield Path(entry.path, "comm").read_text(errors="replace").strip()
            except OSError:
                continue
