"""The fake driver of this process, loaded by the real pynvml and run by scripts."""

import ctypes
import time

import pytest

from warpspan.testing import ScriptedClock, ScriptedDevice


class Fake:
    """The fake driver of this process."""

    def __init__(self, library, script):
        # By its soname the dynamic linker finds this one when pynvml asks for the driver's.
        self._library = ctypes.CDLL(str(library))
        self._library.fake_nvml_set_time.argtypes = [ctypes.c_int64]
        self._library.fake_nvml_calls.restype = ctypes.c_int64
        self._library.fake_nvml_caller.restype = ctypes.c_long
        self._script = script

    def script(self, *lines, clock="manual"):
        """Follow these lines, from time 0 of a clock that `at` sets."""
        head = ["clock manual", "epoch 0"] if clock == "manual" else []
        self._script.write_text("\n".join([*head, *lines]) + "\n")
        self._library.fake_nvml_reload()

    def at(self, seconds):
        """Let it be that many seconds."""
        self.at_ns(round(seconds * 1e9))

    def at_ns(self, ns):
        """Let it be that many nanoseconds."""
        self._library.fake_nvml_set_time(ns)

    @property
    def calls(self):
        """How many calls there were."""
        return self._library.fake_nvml_calls()

    @property
    def caller(self):
        """Native id of the thread that made the last call."""
        return self._library.fake_nvml_caller()


@pytest.fixture
def fake(fake_library, tmp_path, monkeypatch):
    """The fake driver, following an empty script."""
    script = tmp_path / "nvml.txt"
    script.write_text("clock manual\nepoch 0\n")
    monkeypatch.setenv("FAKE_NVML_SCRIPT", str(script))
    driver = Fake(fake_library, script)
    driver.script()
    driver.at(0)
    return driver


class LiveClock(ScriptedClock):
    """The machine's own time, as the fake driver's is."""

    def now_ns(self):
        return time.perf_counter_ns()

    def wall_ns(self):
        return time.time_ns()

    def advance(self, seconds):
        time.sleep(seconds)

    def advance_to(self, now_ns):
        left_ns = max(0, now_ns - self.now_ns())
        time.sleep(left_ns / 1e9)
        return left_ns


@pytest.fixture
def live_device():
    """A scripted CUDA device whose time is the machine's own; a kernel takes 2 ms."""
    with ScriptedDevice(uuids=[f"{0:032x}"], clock=LiveClock()) as device:
        device.op_time_s = 2e-3
        yield device
