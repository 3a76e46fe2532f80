"""The suite from operation to rows and spans, on a scripted device with real computation."""

import pytest
import torch
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from warpspan.kernels.bench import fused as suite
from warpspan.kernels.bench import providers
from warpspan.kernels.bench.op import Op, missing
from warpspan.kernels.bench.ops import load
from warpspan.signals import names

pytestmark = pytest.mark.usefixtures("kernels")

US = 1e-6
CEILING = suite.Ceiling(copied_bytes=4_000_000, datasheet_bytes_per_s=4.8e12)
DIMS = {"M": 2, "I": 8}


SWIGLU = load("swiglu")


@pytest.fixture
def device(computing):
    return computing(
        {SWIGLU.fused: "triton", SWIGLU.reference: "eager"},
        {"triton": 2 * US, "eager": 6 * US, "copy": 1 * US},
    )


def run(op, device, names, dtype=torch.float32, **options):
    generator = torch.Generator().manual_seed(0)
    options = {"rounds": 3, "caches": ("cold",), **options}
    return suite.run_case(op, DIMS, dtype, names, device, CEILING, generator=generator, **options)


def test_rows_hold_what_was_measured(device):
    """Times, launches, bytes and their fractions, distance from float64, speed-up over eager."""
    eager, ours = run(SWIGLU, device, ["eager", "triton"])
    assert ("swiglu", "M=2,I=8", "decode", "float32", "triton", "cold", None, "graph", 1) == ours[
        :9
    ]
    assert pytest.approx((2 * US, 6 * US, 3.0)) == (
        ours.device_p50_s,
        eager.device_p50_s,
        ours.speedup,
    )
    # 3 tensors of 16 float32; the copy moves 4 MB in 1 us.
    assert (192, pytest.approx(4e12), 4.8e12) == (
        ours.minimum_bytes,
        ours.ceiling_bytes_per_s,
        ours.datasheet_bytes_per_s,
    )
    assert ours.max_error is not None
    assert ours.max_error < 1e-6
    assert (None, None, None) == (ours.sm_cycles, ours.energy_j, ours.throttle_reasons)


def test_a_hot_row_is_not_held_to_the_memorys_ceiling(device):
    """Its inputs come from L2."""
    (hot,) = run(SWIGLU, device, ["triton"], caches=("hot",))
    assert ("hot", None, None) == (hot.cache, hot.ceiling_fraction, hot.datasheet_fraction)


def test_a_provider_that_cannot_run_says_why_in_its_row(device, monkeypatch):
    """Not installed, no such operation, broken import, or a fault of its own: never gone."""

    def broken(gate, up):
        raise RuntimeError("no kernel image is available\nand more")

    def library():
        raise ImportError("libcuda.so.1")

    op = Op(
        **{
            **vars(SWIGLU),
            "providers": {
                "eager-native": missing("torch has no fused silu and product"),
                "liger": library,
                "flashinfer": lambda: broken,
            },
        }
    )
    found = providers.importlib.util.find_spec

    def find_spec(name):
        installed = name in ("liger_kernel", "flashinfer")
        return True if installed else None if name == "torch_tensorrt" else found(name)

    monkeypatch.setattr(providers.importlib.util, "find_spec", find_spec)
    rows = run(op, device, ["eager-native", "liger", "flashinfer", "tensorrt", "triton"])
    assert {
        "eager-native": "torch has no fused silu and product",
        "liger": "can't be imported: libcuda.so.1",
        "flashinfer": "RuntimeError: no kernel image is available",
        "tensorrt": "not installed: pip install torch-tensorrt",
        "triton": None,
    } == {row.provider: row.reason for row in rows}
    assert ["triton"] == [row.provider for row in rows if row.device_p50_s is not None]


def test_a_wrong_result_of_ours_stops_the_run_and_names_the_case(device):
    """Correctness before speed."""
    wrong = Op(**{**vars(SWIGLU), "fused": lambda gate, up: gate * up})
    with pytest.raises(suite.WrongResultError, match=r"swiglu torch.float32 M=2,I=8: is .* from"):
        run(wrong, device, ["triton"])


def test_a_wrong_result_of_another_is_told_and_timed(device):
    """Another implementation may round differently: its row says so."""
    other = {"eager-native": lambda: lambda gate, up: gate * up}
    op = Op(**{**vars(SWIGLU), "providers": other})
    (row,) = run(op, device, ["eager-native"])
    assert row.reason is not None
    assert row.reason.startswith("beyond the rule: is ")
    assert row.device_p50_s is not None


def test_a_compiled_provider_runs_the_reference(device):
    """torch.compile with inductor on this device, checked by the same rule."""
    device.times["compile"] = 4 * US
    device.who = lambda call: "compile"
    (row,) = run(SWIGLU, device, ["compile"])
    assert ("compile", None) == (row.provider, row.reason)


def test_an_operation_without_float64_in_memory_is_timed_without_an_error(device, monkeypatch):
    """The distance is absent, and the row says why."""

    def out_of_memory(*arguments):
        if arguments[0].dtype == torch.float64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return SWIGLU.reference(*arguments)

    op = Op(**{**vars(SWIGLU), "reference": out_of_memory})
    (row,) = run(op, device, ["triton"])
    assert (None, None, "error not measured: float64 does not fit in memory") == (
        row.max_error,
        row.error_ratio,
        row.reason,
    )


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


def test_a_run_is_a_trace_with_a_span_a_row(device, exporter, tracer):
    """Rows are children of the run and carry the attribute names of inferences."""
    of_device = {names.PYTORCH_DEVICE_TYPE: "cpu", names.HW_ID: "GPU-1"}
    with suite.Run("bench fused", device, tracer) as trace:
        rows = run(SWIGLU, device, ["eager", "triton"])
        trace.add(rows, start_ns=1_000)
    eager, ours, parent = exporter.get_finished_spans()
    assert ["swiglu eager", "swiglu triton", "bench fused"] == [
        span.name for span in (eager, ours, parent)
    ]
    assert {parent.context.span_id} == {span.parent.span_id for span in (eager, ours)}
    assert of_device | rows[1].attributes() == dict(ours.attributes)
    assert ("swiglu", pytest.approx(2 * US), 1, 1_000) == (
        ours.attributes["pytorch.operation.name"],
        ours.attributes["pytorch.device.time"],
        ours.attributes["pytorch.bench.launch.count"],
        ours.start_time,
    )


def test_what_runs_inside_is_a_child_of_the_run(device, exporter, tracer):
    """The inferences of a benchmarked model hang below it; an error is on the run's span."""

    def fail():
        with suite.Run("bench model", device, tracer):
            tracer.start_span("prefill LlamaForCausalLM").end()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    inner, parent = exporter.get_finished_spans()
    assert parent.context.span_id == inner.parent.span_id
    assert ("ZeroDivisionError", False) == (
        parent.attributes["error.type"],
        parent.status.is_ok,
    )
