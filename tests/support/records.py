"""Records for tests, made by keyword."""

from __future__ import annotations

from typing import Any

from warpspan.records import (
    Cache,
    Device,
    Inference,
    Input,
    Memory,
    Model,
    Site,
    Steps,
    SyncKind,
    SyncPlace,
    Syncs,
    Timing,
    Transfer,
    Transfers,
    Usage,
)

_FULL = Inference(
    operation="forward",
    start_ns=1_700_000_000_000_000_000,
    duration_s=0.25,
    device=Device("cuda", 1, "GPU-1234"),
    model=Model(
        name="BertModel",
        parameter_count=22,
        parameter_bytes=88,
        dtype="float32",
        quantization="int8",
        compiled=True,
        device_count=2,
    ),
    input=Input(batch_size=8, sequence_length=128, shape=(8, 128)),
    timing=Timing(
        cpu_time_s=0.1,
        device_time_s=0.2,
        queue_time_s=0.01,
        idle_time_s=0.02,
        concurrency=3,
        gc_time_s=0.001,
        gc_count=2,
    ),
    memory=Memory(
        allocated_start_bytes=1,
        allocated_end_bytes=2,
        peak_bytes=30,
        peak_increase_bytes=29,
        reserved_bytes=40,
        limit_bytes=100,
        utilization=0.3,
        allocation_retries=0,
        oom_requested_bytes=7,
        rss_bytes=9,
    ),
    steps=Steps(total=3, first_s=0.1, duration_s=0.2),
    usage=Usage(
        gpu_time_s=0.2,
        sm_cycles_active=5e9,
        sm_cycles_elapsed=3.5e8,
        sm_clock_hz=1.755e9,
        sm_utilization=0.6,
        sm_occupancy=0.3,
        tensor_utilization=0.4,
        dram_utilization=0.5,
        sm_source="gpm",
        sm_scope="device",
        energy_j=90.0,
        power_w=450.0,
        energy_source="nvml.energy",
        utilization=0.97,
        temperature_c=61.0,
        throttle_reasons=("sw_power_cap",),
        estimated=True,
    ),
    cache=Cache(
        type="dynamic",
        size_bytes=4096,
        increase_bytes=512,
        tokens=8,
        token_increase=1,
        token_capacity=16,
        layers=2,
        retained_bytes=2048,
        weight_ratio=0.5,
        utilization=0.25,
        alive_bytes=8192,
        alive_count=2,
        leak_score=0.75,
        leak_start_s=1_700_000_000.5,
    ),
    syncs=Syncs(
        total=38,
        stalled_s=0.012,
        longest_kind="cpu",
        longest_s=0.009,
        longest_site=Site("/app/serve.py", 7, "serve.handle"),
        repeated_kind="item",
        repeated_site=Site("/app/decode.py", 42, "decode.Decoder.forward"),
        kinds=(SyncKind("cpu", 1, 0.009), SyncKind("item", 37, 0.003)),
        places=(
            SyncPlace(
                kind="cpu",
                file="/app/serve.py",
                line=7,
                function="serve.handle",
                total=1,
                stalled_s=0.009,
            ),
        ),
    ),
    transfers=Transfers(
        h2d=Transfer(
            total=2,
            nbytes=600,
            pageable_bytes=500,
            weight_bytes=400,
            time_s=1e-6,
            bytes_per_s=6e8,
            device_share=0.000005,
        ),
        d2h=Transfer(
            total=38,
            nbytes=100,
            pageable_bytes=60,
            weight_bytes=0,
            time_s=2e-6,
            bytes_per_s=5e7,
            device_share=0.00001,
        ),
        d2d=Transfer(
            total=1,
            nbytes=50,
            pageable_bytes=0,
            weight_bytes=0,
            time_s=3e-6,
            bytes_per_s=1e7,
            device_share=0.000015,
        ),
        pin_count=1,
        pin_bytes=500,
        pin_time_s=0.001,
    ),
    error_type="torch.OutOfMemoryError",
    trace_id="0af7651916cd43dd8448eb211c80319c",
    span_id="b7ad6b7169203331",
    parent_span_id="00f067aa0ba902b7",
)


def full_inference(**changes: Any) -> Inference:
    """An inference of which all is known, but for the steps of a loop.

    Args:
        changes: fields that differ, None for a group that is absent.
    """
    return _FULL._replace(**changes)


def inference(**values: Any) -> Inference:
    """A `forward` of one second on the CPU of which nothing more is known than what is given."""
    known = {"operation": "forward", "start_ns": 0, "duration_s": 1.0, "device": Device("cpu")}
    return Inference(**(known | values))
