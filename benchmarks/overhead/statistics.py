"""What a variant costs: differences and ratios of blocks that ran side by side. Pure.

The machine drifts (other tenants, clock frequency, caches) by more than the differences that are
sought. So the variants take turns in short blocks, in a new random order each round, everything is
compared with the baseline of its own round, and the median over the rounds is the result.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Block(NamedTuple):
    """Some calls in a row and all that they caused.

    Args:
        latencies_ns: time of each call on the caller's thread.
        inner_ns: the part of each call that its submodules took.
        processor_ns: processor time of the process, all threads, for the calls and what they
            left to be done.
    """

    latencies_ns: Sequence[int]
    inner_ns: Sequence[int]
    processor_ns: int

    @property
    def p50_ns(self) -> float:
        """Median time of a call."""
        return statistics.median(self.latencies_ns)

    @property
    def p99_ns(self) -> float:
        """Nearest-rank 99th percentile of the time of a call."""
        return sorted(self.latencies_ns)[math.ceil(0.99 * len(self.latencies_ns)) - 1]

    @property
    def processor_ns_per_call(self) -> float:
        """Processor time of one call and what it left to be done."""
        return self.processor_ns / len(self.latencies_ns)


class Cost(NamedTuple):
    """What a variant adds to one call, in nanoseconds: `inner_ns` of it inside, to submodules."""

    caller_p50_ns: float
    caller_p99_ns: float
    inner_ns: float
    processor_ns: float


def measure(
    call: Callable[[Any], object],
    argument: Any,
    count: int,
    drain: Callable[[], object],
    inner_ns: list[int],
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
    processor_clock: Callable[[], int] = time.process_time_ns,
) -> Block:
    """Run a block: `count` calls, then `drain`, which does what the calls left to be done.

    `inner_ns` is where the calls note what their submodules took.
    """
    inner_ns.clear()
    latencies_ns: list[int] = []
    keep = latencies_ns.append
    processor_began_ns = processor_clock()
    for _ in range(count):
        began_ns = clock()
        call(argument)
        keep(clock() - began_ns)
    drain()
    return Block(latencies_ns, list(inner_ns), processor_clock() - processor_began_ns)


def rounds(
    members: Iterable[T],
    seconds: float,
    *,
    at_least: int,
    at_most: int,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[list[T]]:
    """The members in a new random order each round, until the time is over."""
    shuffle = random.Random(seed).shuffle
    order = list(members)
    until = clock() + seconds
    for done in range(at_most):
        if done >= at_least and clock() >= until:
            return
        shuffle(order)
        yield list(order)


class Comparison:
    """The blocks of all variants of one workload.

    Args:
        blocks: the blocks of each variant, one of each round, in the order of the rounds.
        baseline: the variant that all are compared with.
    """

    def __init__(self, blocks: Mapping[str, Sequence[Block]], baseline: str) -> None:
        self._p50_ns = {name: [block.p50_ns for block in of] for name, of in blocks.items()}
        self._p99_ns = {name: [block.p99_ns for block in of] for name, of in blocks.items()}
        self._inner_ns = {
            name: [statistics.median(block.inner_ns) for block in of] for name, of in blocks.items()
        }
        self._processor_ns = {
            name: [block.processor_ns_per_call for block in of] for name, of in blocks.items()
        }
        self._baseline = baseline

    def cost(self, variant: str) -> Cost:
        """What a variant adds to the baseline."""
        return Cost(
            statistics.median(self._added(self._p50_ns, variant)),
            # Of each round, too: pooled, it is that of the rounds that other programs disturbed.
            statistics.median(self._added(self._p99_ns, variant)),
            statistics.median(self._added(self._inner_ns, variant)),
            statistics.median(self._added(self._processor_ns, variant)),
        )

    def caller_ratio(self, variant: str, other: str) -> float | None:
        """Added time on the caller's thread, as a multiple of another variant's."""
        return _ratio(self._added(self._p50_ns, variant), self._added(self._p50_ns, other))

    def processor_ratio(self, variant: str, other: str) -> float | None:
        """Added processor time, as a multiple of another variant's."""
        return _ratio(
            self._added(self._processor_ns, variant), self._added(self._processor_ns, other)
        )

    def _added(self, values: Mapping[str, Sequence[float]], variant: str) -> list[float]:
        return [
            value - base
            for value, base in zip(values[variant], values[self._baseline], strict=True)
        ]


def _ratio(added: Sequence[float], other: Sequence[float]) -> float | None:
    # A round in which the other one cost nothing was disturbed.
    quotients = [value / base for value, base in zip(added, other, strict=True) if base > 0]
    return statistics.median(quotients) if quotients else None
