"""The ways in which a process with inferences ends."""

import atexit
import os
import signal
import sys
import threading

from opentelemetry import metrics, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from scenarios import Model, X, run_all

import warpspan


def instrument(**options):
    warpspan.WarpspanInstrumentor().instrument(**options)


def set_providers(host):
    trace.set_tracer_provider(host.tracer_provider())
    metrics.set_meter_provider(host.meter_provider())


def without_sdk(host):
    instrument()
    model = Model().eval()
    for _ in range(3):
        model(X)
    with warpspan.inference("rerank"):
        model(X)
    assert warpspan.flush(10)


def sdk_disabled(host):
    os.environ["OTEL_SDK_DISABLED"] = "true"
    instrument()
    set_providers(host)
    model = Model().eval()
    for _ in range(3):
        model(X)
    assert warpspan.flush(10)


def providers_before(host):
    set_providers(host)
    instrument()
    model = Model().eval()
    for _ in range(3):
        model(X)


def providers_after(host):
    instrument()
    model = Model().eval()
    model(X)
    assert warpspan.flush(10)
    set_providers(host)
    for _ in range(3):
        model(X)


def meter_provider_last(host):
    instrument()
    trace.set_tracer_provider(host.tracer_provider())
    model = Model().eval()
    model(X)
    assert warpspan.flush(10)
    metrics.set_meter_provider(host.meter_provider())
    for _ in range(3):
        model(X)


def unhandled_exception(host):
    def fail():
        raise LookupError("of the host")

    set_providers(host)
    instrument()
    Model(fail).eval()(X)


def system_exit(host):
    set_providers(host)
    instrument()
    Model(lambda: sys.exit(3)).eval()(X)


def sigterm(host):
    """Nobody handles it: the process is gone, whatever is in flight."""
    set_providers(host)
    instrument()
    Model().eval()(X)
    Model(lambda: (host.ready(), threading.Event().wait())).eval()(X)


def sigterm_handled(host):
    """As servers do: the handler exits, in the middle of an inference."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    set_providers(host)
    instrument()
    Model().eval()(X)
    Model(lambda: (host.ready(), threading.Event().wait())).eval()(X)


def thread_goes_on(host):
    """The interpreter waits for a thread that infers when the main one is at its end."""
    set_providers(host)
    instrument()
    main = threading.main_thread()

    def serve():
        main.join()
        Model().eval()(X)

    threading.Thread(target=serve).start()
    Model().eval()(X)


def inference_at_exit(host):
    """An exit handler of the host that was registered before everything of ours runs last."""
    atexit.register(lambda: print(tuple(Model().eval()(X).shape)))
    set_providers(host)
    instrument()
    Model().eval()(X)


class Hangs(SpanExporter):
    """As an endpoint that never answers."""

    def __init__(self):
        self.hanging = threading.Event()

    def export(self, spans):
        self.hanging.set()
        threading.Event().wait()


def infer_while_hanging(host, exporter, provider, **options):
    meter_provider = host.meter_provider()
    instrument(tracer_provider=provider, meter_provider=meter_provider, **options)
    model = Model().eval()
    for _ in range(100):
        model(X)
    exporter.hanging.wait()
    for _ in range(100):
        model(X)
    print(warpspan.flush(0.2))


def exporter_hangs(host):
    """It holds up our finisher: what does not fit in the queue is dropped, and counted."""
    exporter = Hangs()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    infer_while_hanging(host, exporter, provider, queue_size=16, flush_timeout_s=0.1)


def batch_exporter_hangs(host):
    """It holds up the SDK's own thread: the metrics have all, the flush finds out."""
    exporter = Hangs()
    provider = TracerProvider(shutdown_on_exit=False)  # it would wait 30 s for the exporter
    provider.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=1))
    infer_while_hanging(host, exporter, provider)


def exporter_hangs_when_flushed(host):
    """Only the flush finds out: the batch processor waits in it for as long as it takes."""
    exporter = Hangs()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=3_600_000))
    instrument(tracer_provider=provider)
    Model().eval()(X)
    print(warpspan.flush(0.2), exporter.hanging.wait(300))


if __name__ == "__main__":
    run_all(
        {
            scenario.__name__: scenario
            for scenario in (
                without_sdk,
                sdk_disabled,
                providers_before,
                providers_after,
                meter_provider_last,
                unhandled_exception,
                system_exit,
                sigterm,
                sigterm_handled,
                thread_goes_on,
                inference_at_exit,
                exporter_hangs,
                batch_exporter_hangs,
                exporter_hangs_when_flushed,
            )
        }
    )
