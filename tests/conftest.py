"""What every test may use: an instrumented torch, its telemetry in memory, and whole values."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from opentelemetry import context as otel_context
from opentelemetry.trace import SpanKind, StatusCode

import warpspan
from warpspan import guard
from warpspan.probes import clock
from warpspan.probes.runtime_device import RuntimeDevices
from warpspan.testing import InMemoryTelemetry, ScriptedDevice
from warpspan.testing.clock import ScriptedClock

# A shell starts what it puts in the background with some signals ignored, which children inherit.
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests run beside each other and start programs. Threads of torch that wait for a core by spinning
# would take it from those.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# One test runs another instrumentor of transformers beside ours; in all others it would import
# transformers at the start of each program.
os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = "transformers"


def _interpret_kernels():
    """Have Triton run kernels in its interpreter where there is no GPU.

    It reads the variable when it defines a function, its own included, and libraries that some
    tests import bring Triton in: beside the tests of kernels it would be too late.
    """
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"


_interpret_kernels()

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ROOT / "tests" / "survival" / "programs"

#: Stands for a value that was measured: present and not negative, its size is not the test's.
MEASURED = "measured"
_MEASURED = {
    "pytorch.device.idle.time",
    "pytorch.host.cpu.time",
    "pytorch.host.gc.count",
    "pytorch.host.gc.time",
    "pytorch.host.memory.rss",
    "pytorch.step.first.time",
    "pytorch.step.time",
    "pytorch.encoder.time",
    "pytorch.preprocess.time",
    "pytorch.postprocess.time",
    "pytorch.token.first.time",
    "pytorch.prefill.time",
    "pytorch.decode.time",
    "pytorch.decode.between.time",
    "pytorch.decode.between.share",
    "pytorch.assistant.time",
    "pytorch.denoise.time",
    "pytorch.vae.time",
    "pytorch.vae.share",
    "pytorch.text_encoder.time",
    "pytorch.text_encoder.share",
    *(
        f"pytorch.{name}.duration.{part}"
        for name in ("step", "token", "denoise.step")
        for part in ("mean", "p50", "p99", "max")
    ),
}


class Telemetry(InMemoryTelemetry):
    """Spans and metrics in memory, for tests that instrument by themselves."""

    def __init__(self):
        super().__init__()
        self.tracer = self.tracer_provider.get_tracer("host")

    def instrument(self, **options):
        """Instrument with these providers, or with others and options."""
        providers = {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
        }
        warpspan.WarpspanInstrumentor().instrument(**{**providers, **options})

    def uninstrument(self):
        """Take everything back, if there is anything."""
        if warpspan.WarpspanInstrumentor().is_instrumented_by_opentelemetry:
            warpspan.WarpspanInstrumentor().uninstrument()

    def inferences(self):
        """The spans of warpspan that ended so far, whole, in the order of their starts."""
        spans = self.spans()
        names = {span.context.span_id: span.name for span in spans}
        return [_whole(span, names) for span in spans if span.instrumentation_scope.name != "host"]

    def points(self, name):
        """The data points of a metric, by the values of their attributes; {} where it has none."""
        return {tuple(point.attributes.values()): point for point in self.metrics().get(name, ())}


def _whole(span, names):
    """A span as a value. Its parent is named, `MEASURED` stands for what was measured."""
    # What KV caches hold has tests of its own, with sizes computed by hand.
    attributes = {
        name: value
        for name, value in span.attributes.items()
        if not name.startswith("pytorch.kv_cache.")
    }
    for name in _MEASURED & attributes.keys():
        assert attributes[name] >= 0
        attributes[name] = MEASURED
    assert span.start_time <= span.end_time
    return {
        "name": span.name,
        "kind": span.kind,
        "parent": names.get(span.parent.span_id, "remote") if span.parent else None,
        "attributes": attributes,
        "status": (span.status.status_code, span.status.description),
        "events": list(span.events),
        "links": list(span.links),
    }


def _expected(
    model,
    shape=None,
    *,
    operation="forward",
    name=None,
    parent=None,
    first=False,
    error=None,
    dtype="float32",
    steps=None,
    measured=(),
    **attributes,
):
    """The whole span of an inference on the CPU.

    Args:
        model: the module whose facts it has, or None.
        shape: shape of the input.
        operation: what ran.
        name: of the model, by default its class.
        parent: name of the parent span.
        first: nothing ran on the device before.
        error: class of the exception that left it.
        dtype: of the parameters.
        steps: how many it has, without a role.
        measured: names of other attributes that it has, whose values are not the test's.
        attributes: others that differ, `_` for `.` and `__` for `_`; None takes one away.
    """
    name = name or (type(model).__name__ if model is not None else None)
    parameters = list(model.parameters()) if model is not None else []
    values = {
        "pytorch.operation.name": operation,
        "pytorch.model.name": name,
        "pytorch.device.type": "cpu",
        "pytorch.model.compiled": False if model is not None else None,
        "pytorch.input.batch.size": shape[0] if shape is not None and len(shape) > 1 else None,
        "pytorch.input.shape": tuple(shape) if shape is not None else None,
        "pytorch.host.cpu.time": MEASURED,
        "pytorch.host.gc.count": MEASURED,
        "pytorch.host.gc.time": MEASURED,
        "pytorch.host.memory.rss": MEASURED,
        "pytorch.device.idle.time": None if first else MEASURED,
        "pytorch.inference.concurrency": 1,
        "error.type": error,
    }
    if parameters:
        values |= {
            "pytorch.model.parameter.count": sum(p.numel() for p in parameters),
            "pytorch.model.parameter.size": sum(p.numel() * p.element_size() for p in parameters),
            "pytorch.model.dtype": dtype,
            "pytorch.model.device.count": 1,
        }
    if steps:
        values |= {
            "pytorch.step.count": steps,
            "pytorch.step.first.time": MEASURED,
            "pytorch.step.time": MEASURED,
            "pytorch.step.source": "host",
            **{f"pytorch.step.duration.{part}": MEASURED for part in ("mean", "p50", "p99", "max")},
        }
    values |= {f"pytorch.{part}": MEASURED for part in measured}
    values |= {_name(key): value for key, value in attributes.items()}
    return {
        "name": f"{operation} {name}" if name else operation,
        "kind": SpanKind.INTERNAL,
        "parent": parent,
        "attributes": {key: value for key, value in values.items() if value is not None},
        "status": (StatusCode.ERROR if error else StatusCode.UNSET, None),
        "events": [],
        "links": [],
    }


def _name(key):
    """`a_b` is `a.b`, and `a__b` is `a_b`."""
    return key.replace("__", " ").replace("_", ".").replace(" ", "_")


@pytest.fixture
def expected():
    """Makes the whole span of an inference, to compare `telemetry.inferences()` with."""
    return _expected


@pytest.fixture
def uninstrumented():
    """Telemetry that the test instruments itself. Everything is as it was when the test is over."""
    original = torch.nn.Module.__call__
    context = otel_context.get_current()
    guard.forget()
    telemetry = Telemetry()
    yield telemetry
    faults = dict(guard.faults)
    telemetry.uninstrument()
    assert {} == faults
    assert torch.nn.Module.__call__ is original
    assert context == otel_context.get_current()


@pytest.fixture
def telemetry(uninstrumented):
    """Instrumented torch and its telemetry, which must not hold a fault or an open inference."""
    uninstrumented.instrument()
    yield uninstrumented
    assert {0} >= {
        point.value for point in uninstrumented.points("pytorch.inference.active").values()
    }


@pytest.fixture
def device(request):
    """A scripted CUDA device, and no fault of ours by its end.

    `@pytest.mark.scripted_device(count=2, op_time_s=0.001)` sets it up: arguments of
    `ScriptedDevice`, and attributes of it.
    """
    marker = request.node.get_closest_marker("scripted_device")
    settings = {} if marker is None else marker.kwargs
    arguments = settings.keys() & {"count", "total_memory"}
    guard.forget()
    with ScriptedDevice(**{name: settings[name] for name in arguments}) as entered:
        for name in settings.keys() - arguments:
            setattr(entered, name, settings[name])
        yield entered
    assert {} == dict(guard.faults)


@pytest.fixture
def recorded(device):
    """What an instrumented program records on the scripted device."""
    with InMemoryTelemetry() as entered:
        yield entered


@pytest.fixture(scope="session")
def program():
    """Runs a program of tests/survival/programs in a process of its own."""

    def run(name, *arguments, launcher=(), code=0, timeout_s=600, **environment):
        environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("OTEL_")},
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "transformers",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
            **environment,
        }
        done = subprocess.run(
            [*launcher, sys.executable, str(PROGRAMS / name), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environ,
        )
        assert code == done.returncode, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def exported(tmp_path):
    """A file for a program's spans, and what is in it: (name, parent's name, process) of each."""
    file = tmp_path / "spans.jsonl"

    def read():
        spans = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        names = {span["id"]: span["name"] for span in spans}
        return [(span["name"], names.get(span["parent"]), span["process"]) for span in spans]

    read.file = file
    return read


@pytest.fixture(scope="session")
def fake_library():
    """A fake libnvidia-ml.so.1; its folder serves as LD_LIBRARY_PATH of another process."""
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    if shutil.which("gcc") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("gcc is missing: the fake driver can't be compiled")
        pytest.skip("gcc is missing: the fake driver can't be compiled")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "libnvidia-ml.so.1"
        subprocess.run(
            [
                *("gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"),
                *("-Wl,-soname,libnvidia-ml.so.1", "-o", library),
                *(ROOT / "tests/device/fake_nvml.c", "-lpthread"),
            ],
            check=True,
        )
        yield library


@pytest.fixture
def host_clock(monkeypatch):
    """The host's time, which the test moves."""
    scripted = ScriptedClock()
    monkeypatch.setattr(clock, "host_ns", scripted.now_ns)
    monkeypatch.setattr(clock, "wall_ns", scripted.wall_ns)
    return scripted


@pytest.fixture
def gpu(device):
    """The scripted device as a place."""
    torch.zeros(1, device="cuda")  # as by a program that uses the device
    return RuntimeDevices(memory=True, pool_size=8).at(torch.device("cuda", 0))
