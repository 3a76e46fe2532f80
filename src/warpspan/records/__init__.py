"""The values that flow through warpspan: immutable, with units in their names.

Each group of values is a named tuple whose fields stand in the order of its attribute names, so
that one table turns a record into span attributes and span attributes back into a record.
"""

from __future__ import annotations

from warpspan.records.device import CacheState, DeviceSample, DeviceState, DeviceUsage, Quantities
from warpspan.records.generation import (
    Denoising,
    GenAi,
    Generation,
    Loop,
    PhaseCycles,
    Phases,
    StepTime,
)
from warpspan.records.inference import (
    AttributeValue,
    Inference,
    device_attributes,
    start_attributes,
)
from warpspan.records.syncs import SYNC_KINDS, Site, SyncKind, Syncs, Transfer, Transfers
from warpspan.records.values import Cache, Device, Input, Memory, Model, Steps, Timing, Usage

__all__ = [
    "SYNC_KINDS",
    "AttributeValue",
    "Cache",
    "CacheState",
    "Denoising",
    "Device",
    "DeviceSample",
    "DeviceState",
    "DeviceUsage",
    "GenAi",
    "Generation",
    "Inference",
    "Input",
    "Loop",
    "Memory",
    "Model",
    "PhaseCycles",
    "Phases",
    "Quantities",
    "Site",
    "StepTime",
    "Steps",
    "SyncKind",
    "Syncs",
    "Timing",
    "Transfer",
    "Transfers",
    "Usage",
    "device_attributes",
    "start_attributes",
]
