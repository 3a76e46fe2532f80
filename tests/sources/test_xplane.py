"""Traces of TensorFlow and JAX: planes made by hand, read as the profiler writes them."""

from __future__ import annotations

import io

import pytest

from warpspan.records import Device
from warpspan.sources.traces import Head, TraceError, read_trace
from warpspan.sources.xplane_schema import x_space


class Plane:
    """A plane whose names get numbers when they are used."""

    def __init__(self, space, name: str) -> None:
        self.plane = space.planes.add(name=name)
        self._events: dict[str, int] = {}
        self._stats: dict[str, int] = {}

    def line(self, name: str, *events: tuple, timestamp_ns: int = 1000):
        """Events as name, start and duration in nanoseconds, and stats."""
        line = self.plane.lines.add(id=len(self.plane.lines) + 1, name=name)
        line.timestamp_ns = timestamp_ns
        for event_name, start_ns, duration_ns, stats in events:
            event = line.events.add(metadata_id=self._event(event_name))
            event.offset_ps, event.duration_ps = start_ns * 1000, duration_ns * 1000
            self.stats(event.stats, **stats)
        return line

    def stats(self, holder, **stats) -> None:
        for name, value in stats.items():
            stat = holder.add(metadata_id=self._stat(name))
            if isinstance(value, str):
                stat.ref_value = self._stat(value)
            else:
                stat.int64_value = value

    def _event(self, name: str) -> int:
        if name not in self._events:
            self._events[name] = number = len(self._events) + 1
            self.plane.event_metadata.add(key=number).value.name = name
            if ":" in name:  # so TensorFlow shortens its operators
                self.plane.event_metadata[-1].value.display_name = name.split(":")[-1]
        return self._events[name]

    def _stat(self, name: str) -> int:
        if name not in self._stats:
            self._stats[name] = number = len(self._stats) + 1
            self.plane.stat_metadata.add(key=number).value.name = name
        return self._stats[name]


def read(space):
    data = space.SerializeToString()
    return read_trace(io.BytesIO(data), "a.xplane.pb", Head.of(data)).trace


def jax():
    """A call that a pool of threads launches on one device, and a copy by it."""
    space = x_space()()
    device = Plane(space, "/device:GPU:3")
    device.line(
        "Stream #17(Kernel)",
        ("gemm_fusion", 500, 100, {"correlation_id": 7, "hlo_op": "dot.1"}),
        ("MemcpyD2H", 700, 50, {
            "correlation_id": 8,
            "memcpy_details": "kind_src:device kind_dst:pinned size:64 dest:0 async:1",
        }),
    )  # fmt: skip
    device.line("XLA Ops", ("dot.1", 500, 100, {}))
    device.stats(device.plane.stats, device_vendor="Nvidia", memory_size=1000)
    host = Plane(space, "/host:CPU")
    host.line(
        "python",
        ("$main.py:3 run", 0, 900, {}),
        ("PjitFunction(forward)", 100, 200, {}),
        ("PjitFunction(forward)", 110, 180, {}),
    )
    host.line(
        "pool/1",
        ("cuLaunchKernel", 350, 10, {"correlation_id": 7, "hlo_op": "dot.1"}),
        ("cuMemcpyDtoHAsync", 400, 10, {"correlation_id": 8}),
    )
    environment = Plane(space, "Task Environment")
    environment.stats(environment.plane.stats, profile_start_time=5_000_000)
    return space


def test_a_call_of_jax_is_an_inference():
    """The outermost call counts, with the work that its threads launched after it returned."""
    trace = read(jax())

    (one,) = trace.inferences
    assert ("jit", "forward", Device("cuda", 3), 5_001_100) == (
        one.inference.operation,
        one.inference.model.name,
        one.inference.device,
        one.inference.start_ns,
    )
    (work,) = one.work
    assert (1, 2, pytest.approx(150e-9)) == (work.kernel_count, work.launch_count, work.busy_s)
    assert [("gemm_fusion", "dot.1")] == [kernel[:2] for kernel in work.kernels]
    assert [("d2h", "pinned", 1, 64)] == [copy[:4] for copy in work.copies]
    assert (True, "Nvidia") == (trace.coverage.python, trace.devices[0].name)


def test_steps_that_the_program_marks_come_first():
    """Also the one with number 0; a step of training is none."""
    space = x_space()()
    host = Plane(space, "/host:CPU")
    host.line(
        "python",
        ("infer", 0, 100, {"step_num": 0}),
        ("PjitFunction(f)", 10, 50, {}),
        ("infer", 200, 100, {"step_num": 1}),
        ("train", 400, 100, {"step_num": 0}),
    )

    trace = read(space)

    assert [("infer", None)] * 2 == [
        (one.inference.operation, one.inference.model.name) for one in trace.inferences
    ]
    assert 1 == trace.training_steps


def test_functions_and_operators_of_tensorflow_are_read():
    """Graphs run their operators on other threads; a gradient makes it training."""
    space = x_space()()
    host = Plane(space, "/host:CPU")
    host.line("python", ("serve", 0, 100, {"tf_function_call": "notTraced-nonXla"}),
              ("fit", 200, 100, {"tf_function_call": "notTraced-nonXla"}))  # fmt: skip
    host.line(
        "tf_Compute/1",
        ("ExecutorState::Process", 10, 60, {}),
        ("dense/MatMul:MatMul", 20, 40, {}),
        ("gradient_tape/dense/MatMul:MatMul", 220, 40, {}),
    )

    trace = read(space)

    (one,) = trace.inferences
    assert ("function", "serve") == (one.inference.operation, one.inference.model.name)
    assert [("dense/MatMul:MatMul", 1, pytest.approx(40e-9))] == [
        (operator.name, operator.total, operator.time_s) for operator in one.operators
    ]
    assert 1 == trace.training_steps


def test_a_tpu_has_operations_and_no_streams():
    """They run one after another, on a line of their own."""
    space = x_space()()
    device = Plane(space, "/device:TPU:0")
    device.line("Steps", ("0", 0, 500, {}))
    device.line("XLA Ops", ("fusion.1", 0, 100, {}), ("fusion.2", 200, 100, {}))
    Plane(space, "/host:CPU").line("python", ("PjitFunction(f)", 0, 50, {}))

    (line,) = read(space).devices

    assert (Device("tpu", 0), 200) == (line.device, line.busy.total_ns)


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_file_that_breaks_off_is_said(kept):
    """Protobuf gives all of it or nothing."""
    data = jax().SerializeToString()
    data = data[: int(len(data) * kept)]

    with pytest.raises(TraceError, match=r"a\.xplane\.pb is an XPlane file that breaks off"):
        read_trace(io.BytesIO(data), "a.xplane.pb", Head.of(data))


def test_a_file_without_events_is_said():
    """As a profiler writes it that was stopped at once."""
    space = x_space()()
    space.planes.add(name="/host:CPU")
    data = space.SerializeToString()

    with pytest.raises(TraceError, match="without any event"):
        read_trace(io.BytesIO(data), "a.xplane.pb", Head.of(data))
