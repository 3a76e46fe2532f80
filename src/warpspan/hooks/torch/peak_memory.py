"""torch's peak-memory counters, read and reset as if warpspan did not use them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from warpspan import guard
from warpspan.hooks.patches import Patches
from warpspan.probes.memory import PeakLedger, StatPath

LedgerOf = Callable[[int], PeakLedger | None]


def patch(patches: Patches, ledger_of: LedgerOf) -> None:
    """Have the functions by which users read and reset peaks answer from the ledger.

    All of torch.cuda's readers rest on one function, and all of torch.accelerator's on another.

    Args:
        patches: where the patches are noted.
        ledger_of: the ledger of a CUDA device, or None where no inference has run.
    """
    cuda = torch.cuda.memory
    read = _reading(cuda.memory_stats_as_nested_dict, cuda, ledger_of, _overlay_nested)
    reset = _resetting(cuda.reset_peak_memory_stats, cuda, ledger_of)
    for owner in (cuda, torch.cuda):
        patches.apply(owner, "memory_stats_as_nested_dict", read)
        patches.apply(owner, "reset_peak_memory_stats", reset)
    accelerator = getattr(getattr(torch, "accelerator", None), "memory", None)  # torch >= 2.9
    if accelerator is not None:
        read = _reading(accelerator.memory_stats, accelerator, ledger_of, _overlay_flat)
        reset = _resetting(accelerator.reset_peak_memory_stats, accelerator, ledger_of)
        for owner in (accelerator, torch.accelerator):
            patches.apply(owner, "memory_stats", read)
            patches.apply(owner, "reset_peak_memory_stats", reset)


def _reading(
    original: Callable[..., Any],
    owner: Any,
    ledger_of: LedgerOf,
    overlay: Callable[[Any, dict[StatPath, int]], None],
) -> Callable[..., Any]:
    @functools.wraps(original)
    def memory_stats(device: Any = None) -> Any:
        stats = original(device)
        try:
            # Empty before the device is initialised, and then nothing of ours has run on it.
            if stats and (ledger := ledger_of(owner._get_device_index(device, optional=True))):
                overlay(stats, ledger.user_peaks())
        except Exception as error:
            guard.caught("memory", error)
        return stats

    return memory_stats


def _resetting(
    original: Callable[..., None], owner: Any, ledger_of: LedgerOf
) -> Callable[..., None]:
    @functools.wraps(original)
    def reset_peak_memory_stats(device: Any = None) -> None:
        ledger = ledger_of(owner._get_device_index(device, optional=True))
        if ledger is None:
            return original(device)
        return ledger.reset_user()

    return reset_peak_memory_stats


def _overlay_nested(stats: dict[Any, Any], peaks: dict[StatPath, int]) -> None:
    for path, peak in peaks.items():
        counters = stats
        for name in path:
            counters = counters.get(name, {})
        if "peak" in counters:
            counters["peak"] = max(counters["peak"], peak)


def _overlay_flat(stats: dict[str, int], peaks: dict[StatPath, int]) -> None:
    for path, peak in peaks.items():
        name = ".".join([*map(str, path), "peak"])
        if name in stats:
            stats[name] = max(stats[name], peak)
