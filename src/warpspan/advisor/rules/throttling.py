"""The device's clocks are held down by heat, by power or by the driver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from warpspan.advisor.rule import finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records.units import share

SAMPLES = Threshold("samples with a reason ≥ 50%", 0.50, "Tensward")
CLOCK = Threshold("SM clock below the highest one seen ≥ 15%", 0.15, "gpuprof")


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """By the driver's reasons and clocks, from samples and from inferences."""
    if not subject.on_gpu:
        return
    devices = {one.device.id for one in subject.inferences if one.device.id}
    samples = [one for one in subject.observation.samples if one.device_id in devices]
    seen = [
        (usage.throttle_reasons, usage.sm_clock_hz)
        for one in subject.inferences
        if (usage := one.usage) is not None
    ]
    seen += [(one.throttle_reasons, one.sm_clock_hz) for one in samples]
    reasons = [held for held, _ in seen if held is not None]
    clocks = [clock for _, clock in seen if clock]
    if not reasons or not clocks:
        return
    throttled = sum(bool(held) for held in reasons) / len(reasons)
    slow = [clock for held, clock in seen if held and clock]
    if throttled < SAMPLES.value or not slow:
        return
    lost = 1 - sum(slow) / len(slow) / max(clocks)
    if lost < CLOCK.value:
        return
    names = Counter(name for held in reasons for name in held)
    listed = ", ".join(
        name for name, _ in sorted(names.items(), key=lambda item: (-item[1], item[0]))
    )
    part = lost * len(slow) / len(clocks)
    yield finding(
        subject,
        Cause.THROTTLING,
        SAMPLES,
        CLOCK,
        what=(
            f"The clock is {share(lost)} below the highest one seen, for {share(throttled)} of the "
            f"samples: {listed.replace('_', ' ')}."
        ),
        advice=(
            "Look at cooling and at the power limit (nvidia-smi -q -d PERFORMANCE,CLOCK,POWER); "
            "raise the limit, or spread the load."
        ),
        check="warpspan doctor: no throttling now; SM clocks on the spans must be higher.",
        evidence={"samples_with_reason": throttled, "clock_lost_share": lost, "reasons": listed},
        time_s=part * subject.inside_s,
        share=part,
        capped=True,  # what a lower clock costs is not measured
    )
