"""Processes with inferences that are forked by C code, as uWSGI does: none of Python's hooks runs."""

import ctypes
import json
import os
import sys
import threading
import time
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from scenarios import Model, X, run_all

import warpspan
from warpspan.export.file import WarpspanFileSpanExporter
from warpspan.instrumentor import active_session


def instrument(host):
    """As at the begin of a program, with a finisher whose thread does nothing.

    A thread that waits for the GIL at such a fork would be waited for in the child: a hazard that is
    Python's own. What the parent inferred is finished at its end.
    """
    trace.set_tracer_provider(host.tracer_provider())
    warpspan.WarpspanInstrumentor().instrument()
    active_session().finisher._thread = threading.main_thread()


def infer(operation, times=1):
    model = Model().eval()
    for _ in range(times):
        with warpspan.inference(operation):
            model(X)


def serve(operation="serve", times=2):
    """Inferences that are finished while the process lives, by its own finisher."""
    infer(operation, times)
    deadline = time.monotonic() + 30
    while active_session().finisher.waiting:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def fork():
    """The C library's, called with the GIL held."""
    return ctypes.PyDLL(None).fork()


def in_fork(work):
    """Run something in a forked process that ends as programs do, and wait for it."""
    process = fork()
    if process == 0:
        work()
        sys.exit()
    _, status = os.waitpid(process, 0)
    assert status == 0, status


def prefork(host):
    """uWSGI. Two children serve, and what the parent has not finished stays the parent's."""
    instrument(host)
    infer("warm-up", 3)
    for _ in range(2):
        in_fork(serve)
    infer("after")


def while_a_span_is_being_ended(host):
    """The finisher holds its lock, which nobody gives back in the child."""
    instrument(host)
    active_session().finisher.pause()
    in_fork(serve)
    active_session().finisher.resume()
    infer("after")


def inside_an_inference(host):
    """The inference is the parent's, with all that the child does in it."""
    instrument(host)
    with warpspan.inference("named"):
        process = fork()
        Model().eval()(X)
    serve("after", 1) if process == 0 else infer("after")
    if process:
        _, status = os.waitpid(process, 0)
        assert status == 0, status


def from_a_child(host):
    """A child forks, without Python's hooks and with them."""
    instrument(host)
    infer("parent")

    def work():
        in_fork(lambda: serve("grandchild"))
        process = os.fork()
        serve("grandchild" if process == 0 else "child")
        if process:
            _, status = os.waitpid(process, 0)
            assert status == 0, status

    in_fork(work)


def through_the_helper(host):
    """Each process hands its spans to a helper of its own."""
    os.environ["OTEL_PYTHON_WARPSPAN_FILE"] = file = f"{host.path}.otlp"
    exporter = WarpspanFileSpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer, helpers = provider.get_tracer("test"), set()

    def export(name):
        tracer.start_span(name).end()
        print(name, len(helpers | {exporter._handover._channel.helper_pid}), flush=True)
        helpers.add(exporter._handover._channel.helper_pid)

    export("parent")
    in_fork(lambda: export("child"))
    export("parent again")
    provider.shutdown()
    for line in Path(file).read_text(encoding="utf-8").splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            print([span["name"] for span in resource["scopeSpans"][0]["spans"]])


if __name__ == "__main__":
    run_all(
        {
            scenario.__name__: scenario
            for scenario in (
                prefork,
                while_a_span_is_being_ended,
                inside_an_inference,
                from_a_child,
                through_the_helper,
            )
        }
    )
