"""Samples the devices on which inferences run: one thread a process, none without a GPU."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from warpspan import forks, guard
from warpspan.device import discovery, identity
from warpspan.device.driver import Driver, NoReader, Reader
from warpspan.device.meter import Meter
from warpspan.probes import clock
from warpspan.probes.runtime_device import RuntimeDevice
from warpspan.records import DeviceSample

_logger = logging.getLogger("warpspan")

#: GPM counts are garbage below this interval, and energy counters are no finer.
MIN_PERIOD_S = 0.1
_IDLE_BEAT_S = 5.0
# At most one part in this many of its time does the sampler spend in the driver.
_BACK_OFF = 20
_LONGEST_REST_S = 5.0
# Counters that were read further apart than this part of their interval are not of one time.
_SKEW = 0.25
_JOIN_S = 1.0


class Sampler:
    """Reads the counters of each device at a steady pace while inferences run on it.

    Args:
        period_s: time between two samples of a device.
        environ: the environment of this process, which says what CUDA's indices mean.
        publish: takes each sample, on the sampler's thread.
        open_driver: opens the driver, on the sampler's thread.
        tick: called in each round, on the sampler's thread.
    """

    def __init__(
        self,
        period_s: float,
        environ: Mapping[str, str],
        publish: Callable[[DeviceSample], None] = lambda _: None,
        open_driver: Callable[[], Driver] = discovery.open_driver,
        *,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.period_s = max(MIN_PERIOD_S, period_s)
        self._environ = environ
        self._open_driver = open_driver
        self._publish_sample = publish
        self._tick = tick
        self.driver: Driver | None = None
        self.reset()
        self._forks = forks.join(in_child=self.reset)

    def reset(self) -> None:
        """Start anew, as in a forked child, which has none of its parent's threads."""
        self._watches: list[_Watch] = []
        self._wake = threading.Event()
        self._starting = threading.RLock()
        self._thread: threading.Thread | None = None
        self._hurried = False
        self._stopped = False
        if self.driver is not None:
            self.driver.forget()

    def __iter__(self) -> Iterator[Meter]:
        return (watch.meter for watch in list(self._watches))

    def attach(self, runtime_device: RuntimeDevice) -> Meter | None:
        """A meter for a device; the first one starts the thread. None where it has no events."""
        if runtime_device.timeline is None or self._stopped:
            return None
        meter = Meter(runtime_device, 2 * self.period_s, self.hurry)
        self._watches.append(_Watch(meter, self._environ, self._publish_sample))
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="warpspan-sampler", daemon=True
                )
                self._thread.start()
        return meter

    def hurry(self) -> None:
        """Have the next sample taken as soon as the counters allow."""
        if not self._hurried:
            self._hurried = True
            self._wake.set()

    def stop(self) -> None:
        """End the thread. One that is inside the driver ends when the driver answers."""
        self._forks.leave()
        self._stopped = True
        self._wake.set()
        for meter in self:
            meter.stop()
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        guard.on_own_thread()
        try:
            self.driver = self.driver or self._open_driver()
            if not self.driver.open() and self.driver.hopeless:
                _logger.warning(
                    "warpspan: no device telemetry: %s. Spans have no energy, cycles and SM "
                    "utilization.",
                    self.driver.problem,
                )
                self._give_up()
            while not self._stopped:
                self._wake.wait(self._round(self.driver))
                self._wake.clear()
        except Exception as error:
            guard.caught("sampler", error)
            self._give_up()
        finally:
            if self.driver is not None:
                self.driver.close()

    def _give_up(self) -> None:
        self._stopped = True
        for meter in self:
            meter.stop()

    def _round(self, driver: Driver) -> float:
        """Sample the devices that are due. How long the next round may wait."""
        now_s = time.monotonic()
        hurried, period_s = self._hurried, self.period_s
        pause_s = period_s
        for watch in list(self._watches):
            due_s = watch.due_s(MIN_PERIOD_S if hurried else period_s) - now_s
            if due_s <= 0:
                watch.sample(driver)
            elif hurried and watch.meter.busy:
                pause_s = min(pause_s, due_s)
        if hurried and pause_s == period_s:
            self._hurried = False
        try:
            self._tick()
        except Exception as error:
            guard.caught("status", error)
        return pause_s


class _Watch:
    """One device: when it was sampled, and what that cost."""

    def __init__(
        self, meter: Meter, environ: Mapping[str, str], publish: Callable[[DeviceSample], None]
    ) -> None:
        self.meter = meter
        self._environ = environ
        self._publish = publish
        self._reader: Reader | None = None
        self._sampled_s: float | None = None
        self._slow_due_s = 0.0

    def due_s(self, period_s: float) -> float:
        """When to sample next, as `time.monotonic` counts."""
        if self._sampled_s is None:
            return 0.0
        wait_s = period_s if self.meter.busy else _IDLE_BEAT_S
        return self._sampled_s + max(wait_s, self.meter.rest_s)

    def sample(self, driver: Driver) -> None:
        """Take a sample."""
        started_s = time.monotonic()
        if self._reader is None or not self._reader.found:
            self._reader = self._find(driver)
        slowly = started_s >= self._slow_due_s
        if slowly:
            self._slow_due_s = started_s + _IDLE_BEAT_S
        taken_ns = clock.host_ns()
        sample = self._reader.read(taken_ns, slowly=slowly)
        took_s = time.monotonic() - started_s
        since_s = started_s - (self._sampled_s or started_s)
        if sample.skew_s > _SKEW * max(since_s, MIN_PERIOD_S):
            # Of which time these are is not known any more.
            sample = sample._replace(
                energy_j=None,
                sm_utilization=None,
                sm_occupancy=None,
                tensor_utilization=None,
                dram_utilization=None,
            )
        self._sampled_s = started_s
        # A driver that is slow is asked less often.
        self.meter.rest_s = min(_BACK_OFF * took_s, _LONGEST_REST_S)
        try:
            self.meter.add(sample)
            self._publish(sample._replace(unix_ns=clock.wall_ns()))
        except Exception as error:
            guard.caught("sampler", error)

    def _find(self, driver: Driver) -> Reader:
        device = self.meter.runtime_device.device
        gpus = driver.gpus()
        uuid = identity.find(gpus, device.ordinal or 0, device.id, self._environ)
        if uuid is None:
            if not gpus:
                return NoReader("", found=False)  # asked again once the driver answers
            _logger.warning(
                "warpspan: no device telemetry for cuda:%s: it can't be matched to one of the "
                "driver's devices. Set CUDA_DEVICE_ORDER=PCI_BUS_ID.",
                device.ordinal,
            )
            self.meter.stop()
            return NoReader("")
        reader = driver.reader(uuid)
        self.meter.scope = reader.scope
        return reader
