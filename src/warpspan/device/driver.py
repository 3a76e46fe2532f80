"""What a driver of GPUs offers, and the null driver of a machine that has none."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from warpspan.records import CounterScope, DeviceSample

INSTALL = "pip install nvidia-ml-py"


LIBRARY_MISSING = (
    "libnvidia-ml.so.1 was not found: install the NVIDIA driver, or start the container with "
    "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
)


class Instance(NamedTuple):
    """A MIG compute instance.

    Args:
        uuid: `MIG-…`.
        gpu_instance: id of the GPU instance that it is in.
        compute_instance: its id in there.
        profile: `1g.10gb`, or None.
        memory_bytes: memory of the GPU instance, or None.
        sm_count: its multiprocessors, or None.
    """

    uuid: str
    gpu_instance: int
    compute_instance: int
    profile: str | None = None
    memory_bytes: int | None = None
    sm_count: int | None = None


class Gpu(NamedTuple):
    """A GPU of the machine, in the driver's order.

    Args:
        uuid: `GPU-…`.
        bus_id: PCI address, by which CUDA_DEVICE_ORDER=PCI_BUS_ID sorts.
        name: its model, or None.
        memory_bytes: its memory, or None.
        mig: whether it is partitioned.
        instances: its MIG compute instances.
    """

    uuid: str
    bus_id: str
    name: str | None = None
    memory_bytes: int | None = None
    mig: bool = False
    instances: tuple[Instance, ...] = ()


class Process(NamedTuple):
    """A process that computes on a device, by the process id that the driver knows."""

    pid: int
    used_bytes: int | None


class Reader(Protocol):
    """Reads the counters of one device."""

    #: What the SM counters cover: `device` or `mig`.
    scope: CounterScope
    #: False where the device was not found; it may be when it is asked for again.
    found: bool

    def read(self, taken_ns: int, *, slowly: bool = False) -> DeviceSample:
        """The counters now. What the device does not give is None.

        Args:
            taken_ns: host clock of the reading.
            slowly: also what changes rarely (errors, other processes).
        """


class Driver(Protocol):
    """The management library of a driver."""

    #: Why it answers nothing now, in one sentence that says what to do; None where it answers.
    problem: str | None
    #: Whether it won't answer in this process, whatever happens.
    hopeless: bool
    #: Seconds spent inside the library so far.
    spent_s: float
    #: Calls made so far.
    calls: int

    def open(self) -> bool:
        """Whether it answers. Tries again after a while where it did not."""

    def version(self) -> str | None:
        """Version of the driver."""

    def cuda_version(self) -> str | None:
        """The newest CUDA version that the driver supports."""

    def gpus(self) -> list[Gpu]:
        """The GPUs of the machine that this process may see."""

    def processes(self, uuid: str) -> list[Process] | None:
        """The processes that compute on a device; None where the driver does not tell."""

    def reader(self, uuid: str) -> Reader:
        """Reads the counters of a device or a MIG instance."""

    def refusals(self, uuid: str) -> dict[str, str]:
        """What a device refused so far: the call, and why."""

    def close(self) -> None:
        """Give back what the library holds."""

    def forget(self) -> None:
        """Start anew, as in a forked child."""


class NoDriver:
    """Stands for a driver where none can be asked, and says why."""

    def __init__(self, problem: str) -> None:
        self.problem: str | None = problem
        self.hopeless = True
        self.spent_s = 0.0
        self.calls = 0

    def open(self) -> bool:
        """Never."""
        return False

    def version(self) -> str | None:
        """Not known."""
        return None

    def cuda_version(self) -> str | None:
        """Not known."""
        return None

    def gpus(self) -> list[Gpu]:
        """None."""
        return []

    def processes(self, uuid: str) -> list[Process] | None:  # noqa: ARG002
        """Not known."""
        return None

    def reader(self, uuid: str) -> NoReader:
        """Reads nothing."""
        return NoReader(uuid)

    def refusals(self, uuid: str) -> dict[str, str]:  # noqa: ARG002
        """Nothing was asked."""
        return {}

    def close(self) -> None:
        """There is nothing to close."""

    def forget(self) -> None:
        """There is nothing to forget."""


class NoReader:
    """Reads nothing."""

    scope = CounterScope.DEVICE

    def __init__(self, uuid: str, *, found: bool = True) -> None:
        self._uuid = uuid
        self.found = found

    def read(self, taken_ns: int, *, slowly: bool = False) -> DeviceSample:  # noqa: ARG002
        """A sample without a value."""
        return DeviceSample(taken_ns, self._uuid)
