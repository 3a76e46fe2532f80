"""Processes with inferences that start other processes."""

import multiprocessing
import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor

import torch
from opentelemetry import metrics, trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import SpanProcessor
from scenarios import Host, Model, X, run_all
from torch import nn
from torch.utils.data import DataLoader, Dataset

import warpspan

fork = multiprocessing.get_context("fork")
spawn = multiprocessing.get_context("spawn")


class Idle(nn.Module):
    """A model without an operator."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x


def set_providers(host):
    trace.set_tracer_provider(host.tracer_provider())
    metrics.set_meter_provider(host.meter_provider())


def instrument(host):
    """As at the begin of a program."""
    set_providers(host)
    warpspan.WarpspanInstrumentor().instrument()


def infer(operation, times=1):
    """Inferences whose spans are called after the place where they run."""
    model = Model().eval()
    for _ in range(times):
        with warpspan.inference(operation):
            model(X)


def in_fork(work):
    """Run something in a forked process that ends as programs do, and wait for it."""
    process = os.fork()
    if process == 0:
        work()
        sys.exit()
    _, status = os.waitpid(process, 0)
    assert status == 0, status


def prefork(host):
    """gunicorn with preload: the parent loads and warms up, its children serve."""
    instrument(host)
    infer("warm-up", 3)
    for _ in range(2):
        in_fork(lambda: infer("serve", 2))
    infer("after")


def post_fork(host):
    """Each child sets its own providers after the fork, as OpenTelemetry advises."""
    warpspan.WarpspanInstrumentor().instrument()
    infer("warm-up", 3)

    def serve():
        set_providers(host)
        infer("serve", 2)

    for _ in range(2):
        in_fork(serve)


def fork_under_load(host):
    """Forks at any moment of inferences on another thread: every child works and ends.

    The model has no operator, since torch's own start is not safe for that.
    """
    instrument(host)
    model, stop = Idle().eval(), threading.Event()

    def load():
        while not stop.is_set():
            with warpspan.inference("load"):
                model(X)

    def serve():
        with warpspan.inference("serve"):
            model(X)

    thread = threading.Thread(target=load)
    thread.start()
    for _ in range(3):
        in_fork(serve)
    stop.set()
    thread.join()


class Locks(SpanProcessor):
    """Holds a lock while a span ends, as the SDK's own parts do."""

    def __init__(self):
        self.lock = threading.Lock()
        self.taken = threading.Event()
        self.go_on = threading.Event()

    def on_end(self, span):
        with self.lock:
            self.taken.set()
            self.go_on.wait()


def fork_while_finishing(host):
    """The finisher is in the middle of a span's end when the process forks."""
    instrument(host)
    locks = Locks()
    trace.get_tracer_provider().add_span_processor(locks)
    os.register_at_fork(before=locks.go_on.set)  # runs before ours, which was registered before
    infer("parent")
    locks.taken.wait()
    in_fork(lambda: print(locks.lock.locked()))


def fork_here():
    """From here on there are two of this process; the first waits for the end of the second."""
    if os.fork() == 0:
        infer("child")
    else:
        _, status = os.wait()
        assert status == 0, status


def fork_in_a_forward(host):
    instrument(host)
    Model(fork_here).eval()(X)
    infer("after")


def fork_in_a_step(host):
    instrument(host)
    with warpspan.inference("named"):
        Model(fork_here).eval()(X)
    infer("after")


def fork_in_a_named_inference(host):
    instrument(host)
    with warpspan.inference("outer"), warpspan.inference("named"):
        fork_here()
    infer("after")


def forked_process(host):
    """multiprocessing's children leave without exit handlers."""
    instrument(host)
    infer("parent")
    with warpspan.inference("starts"):
        process = fork.Process(target=infer, args=("child", 2))
        process.start()
        process.join()
    assert process.exitcode == 0


def forked_pools(host):
    instrument(host)
    with fork.Pool(1) as pool:
        pool.map(infer, ["pool"] * 3)
        pool.close()
        pool.join()
    with ProcessPoolExecutor(1, mp_context=fork) as executor:
        list(executor.map(infer, ["executor"] * 3))


class Embeds(Dataset):
    """A data set that runs a model, where its worker is."""

    def __init__(self, path=None):
        self.path = path

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if self.path is not None and multiprocessing.current_process().name != "MainProcess":
            instrument(Host(self.path, None))
            self.path = None
        infer("worker")
        return index


def data_loader(host):
    instrument(host)
    infer("parent")
    assert 3 == sum(len(batch) for batch in DataLoader(Embeds(), num_workers=1))
    infer("parent")


def data_loader_suppressed(host):
    """What the parent suppresses when it starts its workers is suppressed in them."""
    instrument(host)
    infer("parent")
    with suppress_instrumentation():
        assert 3 == sum(len(batch) for batch in DataLoader(Embeds(), num_workers=1))
    infer("parent")


def data_loader_spawn(host):
    instrument(host)
    loader = DataLoader(Embeds(host.path), num_workers=1, multiprocessing_context=spawn)
    assert 3 == sum(len(batch) for batch in loader)
    infer("parent")


def infer_in_spawned(path, model):
    instrument(Host(path, None))
    with warpspan.inference("child"):
        model(X)


def spawned_process(host):
    """It gets a model that was called before, by pickle."""
    instrument(host)
    model = Model().eval()
    with warpspan.inference("parent"):
        model(X)
    process = spawn.Process(target=infer_in_spawned, args=(host.path, model))
    process.start()
    process.join()
    assert process.exitcode == 0


if __name__ == "__main__":
    run_all(
        {
            scenario.__name__: scenario
            for scenario in (
                prefork,
                post_fork,
                fork_under_load,
                fork_while_finishing,
                fork_in_a_forward,
                fork_in_a_step,
                fork_in_a_named_inference,
                forked_process,
                forked_pools,
                data_loader,
                data_loader_suppressed,
                data_loader_spawn,
                spawned_process,
            )
        }
    )
