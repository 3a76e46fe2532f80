"""NVML: every call to it goes through `Nvml.ask`. The only importer of pynvml (nvidia-ml-py)."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pynvml  # type: ignore[import-untyped]

from warpspan.device.driver import LIBRARY_MISSING, Gpu, Instance, Process
from warpspan.device.nvml.reader import NvmlReader

_logger = logging.getLogger("warpspan")

# After these an answer may come later, from a library that is initialised again.
_LOST = {
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
}
# These stay: the call is not made again for this device.
_REFUSED = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
}
_REASONS = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: "this device does not offer it",
    pynvml.NVML_ERROR_NO_PERMISSION: (
        "it is for administrators only: load the driver with "
        "NVreg_RestrictProfilingToAdminUsers=0, or give the process CAP_SYS_ADMIN"
    ),
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: "this driver does not have it: update the driver",
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: (
        "driver and nvidia-ml-py differ in it: install the nvidia-ml-py of the driver's version"
    ),
    pynvml.NVML_ERROR_UNINITIALIZED: "NVML is not initialised",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is not loaded: see nvidia-smi",
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: LIBRARY_MISSING,
    pynvml.NVML_ERROR_GPU_IS_LOST: "the GPU fell off the bus: see dmesg, then reset or reboot",
    pynvml.NVML_ERROR_RESET_REQUIRED: "the GPU has to be reset: nvidia-smi --gpu-reset",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA driver was updated under its loaded kernel module: reboot, or reload the module"
    ),
}
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 60.0


class Nvml:
    """The driver's management library. Serves one thread at a time.

    A call answers None where the library, the device or the permission is missing; each reason is
    logged once. After a loss the library is initialised again, at growing intervals.

    Args:
        now_s: a clock.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self.spent_s = 0.0
        self.calls = 0
        #: The slowest call so far: its name and seconds.
        self.slowest = ("", 0.0)
        self._logged: set[tuple[str, str, int]] = set()
        self.forget()

    def forget(self) -> None:
        """Start anew, as in a forked child: its parent's library state is not its own."""
        # The sampler of the parent may have held the lock when the process forked.
        self._lock = threading.RLock()
        self.problem: str | None = None
        self.hopeless = False
        #: Counts initialisations: what the library gave before the latest is void.
        self.generation = 0
        self._initialized = False
        self._retry_at_s = -1.0
        self._retry_s = _FIRST_RETRY_S
        self._handles: dict[str, Any] = {}
        self._refused: dict[tuple[str, str], str] = {}

    def open(self) -> bool:
        """Whether the library is initialised; tries to, at most at the retry interval."""
        with self._lock:
            if self._initialized:
                return True
            if self._now_s() < self._retry_at_s:
                return False
            _, code = self._call("nvmlInit")
            if code:
                self._lose("nvmlInit", "", code)
                return False
            if self.problem is not None and self.generation:
                _logger.info("NVML answers again.")
            self._initialized = True
            self.problem = None
            self.generation += 1
            self._handles.clear()
            self._refused.clear()  # a driver that was loaded anew may permit more
            return True

    def close(self) -> None:
        """Shut the library down, once for our initialisation."""
        with self._lock:
            if self._initialized:
                self._call("nvmlShutdown")
                self._initialized = False

    def ask(self, name: str, *args: Any, uuid: str = "", logged: bool = True) -> Any:
        """The answer of a function of pynvml, or None.

        Args:
            name: the function.
            args: its arguments, after the handle of the device.
            uuid: the device whose handle is the first argument, or none.
            logged: whether a refusal is worth a line.
        """
        with self._lock:
            if (name, uuid) in self._refused or not self.open():
                return None
            answer, code = self._on(uuid, name, args)
            if code == pynvml.NVML_ERROR_UNINITIALIZED:
                # Somebody else of this process shut it down: once more, at once.
                self._initialized = False
                if self.open():
                    answer, code = self._on(uuid, name, args)
            if not code:
                self._retry_s = _FIRST_RETRY_S
                return answer
            if code in _LOST:
                self._lose(name, uuid, code)
            elif code in _REFUSED:
                self._refused[name, uuid] = _reason(code)
            if code not in _LOST and logged:
                self._say(name, uuid, code)
            return None

    def _on(self, uuid: str, name: str, args: tuple[Any, ...]) -> tuple[Any, int]:
        if not uuid:
            return self._call(name, *args)
        handle = self._handles.get(uuid)
        if handle is None:
            handle, code = self._call("nvmlDeviceGetHandleByUUID", uuid)
            if code:
                return None, code
            self._handles[uuid] = handle
        return self._call(name, handle, *args)

    def _call(self, name: str, *args: Any) -> tuple[Any, int]:
        """The answer, and NVML's code of the error, 0 for none."""
        started_s = time.perf_counter()
        try:
            return getattr(pynvml, name)(*args), 0
        except pynvml.NVMLError as error:
            return None, int(error.value)
        except AttributeError:  # an older nvidia-ml-py
            return None, int(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        finally:
            took_s = time.perf_counter() - started_s
            self.spent_s += took_s
            self.calls += 1
            if took_s > self.slowest[1]:
                self.slowest = (name, took_s)

    def _lose(self, name: str, uuid: str, code: int) -> None:
        self.problem = _reason(code)
        self.hopeless = code == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
        if self._initialized:
            self._initialized = False
            self._call("nvmlShutdown")
        self._retry_at_s = self._now_s() + self._retry_s
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)
        self._say(name, uuid, code)

    def _say(self, name: str, uuid: str, code: int) -> None:
        if (name, uuid, code) in self._logged or self.hopeless:
            return
        lost = code in _LOST
        if lost and any(code == other for _, _, other in self._logged):
            return  # whichever call meets a lost driver first, it is one loss
        self._logged.add((name, uuid, code))
        _logger.log(
            logging.WARNING if lost or code == pynvml.NVML_ERROR_NO_PERMISSION else logging.INFO,
            "warpspan: %s%s: %s. Values that depend on it are omitted; inference is unaffected. "
            "(logged once; `warpspan doctor` has the details)",
            name,
            f" of {uuid}" if uuid else "",
            _reason(code),
        )

    def refusals(self, uuid: str) -> dict[str, str]:
        """What a device refused so far: the call, and why."""
        with self._lock:
            return {name: why for (name, of), why in self._refused.items() if of == uuid}

    def version(self) -> str | None:
        """Version of the driver."""
        return _text(self.ask("nvmlSystemGetDriverVersion"))

    def cuda_version(self) -> str | None:
        """The newest CUDA version that the driver supports: 12.8."""
        number = self.ask("nvmlSystemGetCudaDriverVersion")
        return None if number is None else f"{number // 1000}.{number % 1000 // 10}"

    def gpus(self) -> list[Gpu]:
        """The GPUs of the machine that this process may see."""
        count = self.ask("nvmlDeviceGetCount") or 0
        found = (self._gpu(index) for index in range(count))
        return [gpu for gpu in found if gpu is not None]

    def _gpu(self, index: int) -> Gpu | None:
        handle = self.ask("nvmlDeviceGetHandleByIndex", index)
        uuid = None if handle is None else _text(self.ask("nvmlDeviceGetUUID", handle))
        if uuid is None:
            return None
        pci = self.ask("nvmlDeviceGetPciInfo", uuid=uuid)
        memory = self.ask("nvmlDeviceGetMemoryInfo", uuid=uuid)
        mig = self.ask("nvmlDeviceGetMigMode", uuid=uuid, logged=False)
        return Gpu(
            uuid,
            "" if pci is None else _text(pci.busId) or "",
            _text(self.ask("nvmlDeviceGetName", uuid=uuid)),
            None if memory is None else int(memory.total),
            bool(mig and mig[0]),
            self._instances(uuid) if mig and mig[0] else (),
        )

    def _instances(self, uuid: str) -> tuple[Instance, ...]:
        instances = []
        for index in range(self.ask("nvmlDeviceGetMaxMigDeviceCount", uuid=uuid) or 0):
            with self._lock:  # an empty slot is no refusal
                handle, code = self._on(uuid, "nvmlDeviceGetMigDeviceHandleByIndex", (index,))
            of = None if code else _text(self.ask("nvmlDeviceGetUUID", handle))
            if of is None:
                continue
            attributes = self.ask("nvmlDeviceGetAttributes", uuid=of)
            memory = self.ask("nvmlDeviceGetMemoryInfo", uuid=of)
            profile = re.search(r"MIG (\S+)", _text(self.ask("nvmlDeviceGetName", uuid=of)) or "")
            instances.append(
                Instance(
                    of,
                    self.ask("nvmlDeviceGetGpuInstanceId", uuid=of),
                    self.ask("nvmlDeviceGetComputeInstanceId", uuid=of),
                    profile.group(1) if profile else None,
                    None if memory is None else int(memory.total),
                    None if attributes is None else int(attributes.multiprocessorCount),
                )
            )
        return tuple(instances)

    def whole(self, uuid: str) -> str | None:
        """The device that a MIG instance is in."""
        handle = self.ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", uuid=uuid)
        return None if handle is None else _text(self.ask("nvmlDeviceGetUUID", handle))

    def processes(self, uuid: str) -> list[Process] | None:
        """The processes that compute on a device; None where the driver does not tell."""
        found = self.ask("nvmlDeviceGetComputeRunningProcesses", uuid=uuid)
        if found is None:
            return None
        return [Process(int(one.pid), one.usedGpuMemory) for one in found]

    def gpm(self, first: Any, second: Any, metrics: Sequence[int]) -> dict[int, float]:
        """What GPM metrics were between two samples, those that the device offers.

        Args:
            first: the earlier sample.
            second: the later one.
            metrics: ids, `NVML_GPM_METRIC_…`.
        """
        query = pynvml.c_nvmlGpmMetricsGet_t()
        query.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        query.numMetrics = len(metrics)
        query.sample1, query.sample2 = first, second
        for index, metric in enumerate(metrics):
            query.metrics[index].metricId = metric
        if self.ask("nvmlGpmMetricsGet", query) is None:
            return {}
        answers = query.metrics[: len(metrics)]
        return {
            answer.metricId: answer.value
            for answer in answers
            if answer.nvmlReturn == pynvml.NVML_SUCCESS and answer.value == answer.value  # no NaN
        }

    def reader(self, uuid: str) -> NvmlReader:
        """Reads the counters of a device or a MIG instance."""
        return NvmlReader(self, uuid)


def _reason(code: int) -> str:
    return _REASONS.get(code) or f"NVML says {pynvml.NVMLError(code)}".rstrip(".")


def _text(value: Any) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
