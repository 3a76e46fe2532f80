"""The values that flow through warpspan: immutable, with units in their names.

Each group of values is a named tuple whose fields declare their attributes (`records.attr`): the
codec of `Inference` turns a record into span attributes and span attributes back into a record.
"""

from __future__ import annotations

from warpspan.records.attr import AttributeValue
from warpspan.records.device import (
    DeviceSample,
    DeviceState,
    DeviceUsage,
    GpuActivity,
    HardwareMode,
    Quantities,
)
from warpspan.records.generation import (
    Denoising,
    GenAi,
    Generation,
    Loop,
    PhaseCycles,
    Phases,
    StepClock,
    StepMode,
    StepTime,
)
from warpspan.records.inference import (
    DETAILS_EVENT,
    PROFILE_EVENT,
    SPAN_ATTRIBUTE_LIMIT,
    STEPS_EVENT,
    DropReason,
    Inference,
    codec,
    device_attributes,
    start_attributes,
    take_out_details,
    take_out_profile,
)
from warpspan.records.kv_cache import Cache, CacheState
from warpspan.records.memory import Memory
from warpspan.records.model import Device, Input, Model
from warpspan.records.phases import PHASES, Phase
from warpspan.records.profile import Profile, ProfileTotal
from warpspan.records.syncs import Site, SyncCall, SyncKind, SyncPlace, Syncs
from warpspan.records.timing import Steps, Timing
from warpspan.records.transfers import Direction, MemoryKind, Transfer, Transfers
from warpspan.records.usage import CounterScope, Usage

__all__ = [
    "DETAILS_EVENT",
    "PHASES",
    "PROFILE_EVENT",
    "SPAN_ATTRIBUTE_LIMIT",
    "STEPS_EVENT",
    "AttributeValue",
    "Cache",
    "CacheState",
    "CounterScope",
    "Denoising",
    "Device",
    "DeviceSample",
    "DeviceState",
    "DeviceUsage",
    "Direction",
    "DropReason",
    "GenAi",
    "Generation",
    "GpuActivity",
    "HardwareMode",
    "Inference",
    "Input",
    "Loop",
    "Memory",
    "MemoryKind",
    "Model",
    "Phase",
    "PhaseCycles",
    "Phases",
    "Profile",
    "ProfileTotal",
    "Quantities",
    "Site",
    "StepClock",
    "StepMode",
    "StepTime",
    "Steps",
    "SyncCall",
    "SyncKind",
    "SyncPlace",
    "Syncs",
    "Timing",
    "Transfer",
    "Transfers",
    "Usage",
    "codec",
    "device_attributes",
    "start_attributes",
    "take_out_details",
    "take_out_profile",
]
