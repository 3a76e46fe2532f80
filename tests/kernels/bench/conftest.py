"""A device with a scripted clock."""

import pytest
import torch

from warpspan.kernels.bench.harness import CaptureError


class ScriptedDevice:
    """A host and a device clock that only move as scripted; the device works off its queue.

    Args:
        launch_s: host time of a replay.
        capturable: whether graphs can be captured.
    """

    name, identity = "NVIDIA H100 80GB HBM3", "GPU-1"
    torch_device = torch.device("cpu")

    def __init__(self, *, launch_s=10e-6, capturable=True):
        self.host_s, self.device_s = 0.0, 0.0
        self.launch_s, self.capturable = launch_s, capturable
        self.slowdown = 1.0  # of the device, as a falling clock makes it
        self.cached, self.flushes, self.replays = set(), 0, []
        self._capturing = None

    def call(self, name, *, host_s, device_s, hot_s=None, buffer=None):
        """A kernel's launch; with `hot_s` that is its time while its buffer is in L2."""

        def launch():
            if self._capturing is not None:
                self._capturing.append(lambda: self._work(device_s, hot_s, buffer))
            else:
                self.host_s += host_s
                self._work(device_s, hot_s, buffer)

        launch.provider = name
        return launch

    def _work(self, device_s, hot_s, buffer):
        is_hot = hot_s is not None and buffer in self.cached
        self.cached.add(buffer)
        took = (hot_s if is_hot else device_s) * self.slowdown
        self.device_s = max(self.device_s, self.host_s) + took

    def now(self):
        return self.host_s

    def record(self):
        self.device_s = max(self.device_s, self.host_s)
        return self.device_s

    def elapsed_s(self, start, end):
        return end - start

    def synchronize(self):
        self.host_s = max(self.host_s, self.device_s)

    def capture(self, calls, *, keep_outputs):
        if not self.capturable:
            raise CaptureError("operation not permitted when stream is capturing")
        self._capturing = []
        for call in calls:
            call()
        kernels, self._capturing = self._capturing, None

        def replay():
            self.host_s += self.launch_s
            self.replays.append(getattr(calls[0], "provider", None))
            for kernel in kernels:
                kernel()

        return replay

    def spin(self, seconds):
        self.device_s = max(self.device_s, self.host_s) + seconds

    def flush(self):
        self.flushes += 1
        self.cached.clear()
        self.device_s = max(self.device_s, self.host_s) + 50e-6


class ComputingDevice(ScriptedDevice):
    """Calls compute for real on the CPU; their device time is scripted by who made them.

    Args:
        makers: function of a call -> its provider; all others are the plain copy.
        times: provider -> device seconds of a call.
    """

    def __init__(self, makers, times):
        super().__init__()
        self.makers, self.times = makers, times

    def who(self, call):
        return self.makers.get(getattr(call, "func", None), "copy")

    def capture(self, calls, *, keep_outputs):
        for call in calls:
            call()

        def replay():
            took = self.times[self.who(calls[0])] * len(calls)
            self.device_s = max(self.device_s, self.host_s) + took

        return replay

    def now(self):
        self.host_s += 30e-6
        return self.host_s

    def launches(self, call):
        return 1 if self.who(call) == "triton" else 2

    def peak_bytes(self, call):
        return 64

    def copy_calls(self):
        return [lambda: None, lambda: None]


@pytest.fixture
def computing():
    return ComputingDevice


@pytest.fixture
def scripted():
    return ScriptedDevice
