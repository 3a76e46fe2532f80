"""All rules, one a file or a small family. Each is a pure function of a subject."""

from __future__ import annotations

from warpspan.advisor.rule import Hint, Rule
from warpspan.advisor.rules import (
    batching,
    between_steps,
    contention,
    demand,
    device_bound,
    gc,
    hints,
    kv_growth,
    launch,
    memory,
    request_wait,
    sync,
    tail,
    throttling,
    transfer,
)

RULES: tuple[Rule, ...] = (
    launch.rule,
    sync.rule,
    request_wait.rule,
    transfer.rule,
    between_steps.rule,
    batching.rule,
    contention.rule,
    device_bound.rule,
    memory.rule,
    kv_growth.rule,
    throttling.rule,
    gc.rule,
    demand.rule,
    tail.rule,
)
HINTS: tuple[Hint, ...] = (hints.precision, hints.fusion)
