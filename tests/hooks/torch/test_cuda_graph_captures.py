"""Captures of CUDA graphs are left alone, and so is what is patched for them."""

import gc
import inspect
import pickle
import threading

import pytest
import torch

from tests.support.graphs import Encoder, batch, captured
from warpspan.instrumentor import active_session
from warpspan.probes import capture
from warpspan.testing import InMemoryTelemetry

WAIT_S = 30.0

pytestmark = pytest.mark.scripted_device(op_time_s=0.001)


@pytest.mark.scripted_device(count=2)
def test_a_capture_on_another_device_than_the_current_one(device, recorded):
    """No event of ours gets into it: the stream is the one of the model's device."""
    with torch.cuda.device(1):
        model, x = Encoder(), batch()
        model(x)
        stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        open_capture = device._machine.begin_capture(stream.lane(), "global")
        with torch.cuda.device(0):
            model(x)
    device._machine.end_capture(open_capture)
    assert 1 == len(recorded.records())
    assert not open_capture.invalidated


@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
def test_another_thread_infers_and_finishes_during_a_capture(device, recorded, mode):
    """Events are made, recorded and destroyed, nothing is asked, and nothing is lost."""
    model, x = Encoder(), batch()
    model(x)
    began, done = threading.Event(), threading.Event()

    def capturing():
        with torch.no_grad(), torch.cuda.graph(torch.cuda.CUDAGraph(), capture_error_mode=mode):
            began.set()
            assert done.wait(WAIT_S)

    thread = threading.Thread(target=capturing)
    thread.start()
    assert began.wait(WAIT_S)
    device.complete()
    for _ in range(20):
        model(x)
        device.clock.advance(1.0)  # an anchor between the clocks is due
        assert not active_session().finisher.flush(0.0)
    done.set()
    thread.join(WAIT_S)
    records = recorded.records()
    assert [False] == [capture.invalidated for capture in device.captures]
    assert 21 == len(records)
    assert None not in [record.timing.device_time_s for record in records]


def test_a_capture_that_begins_while_times_are_read(device, recorded, monkeypatch):
    """It waits for the one inference whose end was found: reading a time asks the driver, too."""
    model, x = Encoder(), batch()
    model(x)
    device.complete()
    threads = []
    query = torch.cuda.Event.query

    def begins_one(event):
        answer = query(event)
        if not threads:
            thread = threading.Thread(target=captured, args=(model, x))
            threads.append(thread)
            thread.start()
            thread.join(0.2)  # it must not come through
        return answer

    monkeypatch.setattr(torch.cuda.Event, "query", begins_one)
    (record,) = recorded.records()
    threads[0].join(WAIT_S)
    assert [False] == [capture.invalidated for capture in device.captures]
    assert record.timing.device_time_s is not None


def is_shut():
    return capture.gate.ask(lambda: True) is None


def test_the_gate_opens_again_after_captures_that_fail(device, recorded):
    """The begin failed, the body raised, the capture was broken, or ended by its first part."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with pytest.raises(RuntimeError, match="non-default stream"):
        graph.capture_begin()
    assert not is_shut()
    with pytest.raises(RecursionError), torch.cuda.graph(graph):
        raise RecursionError
    assert not is_shut()
    with pytest.raises(RuntimeError), torch.cuda.graph(graph):
        torch.cuda.synchronize()
    assert not is_shut()
    with torch.cuda.stream(stream):
        graph.capture_begin()
        assert is_shut()
        graph.capture_end_pre()
    assert not is_shut()


def test_the_gate_opens_again_when_the_graph_is_gone(device, recorded):
    """Whoever began the capture forgot to end it."""
    with torch.cuda.stream(torch.cuda.Stream()):
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin()
        assert is_shut()
        device._machine.end_capture(device.captures[0])
        del graph
        gc.collect()
        assert not is_shut()


def test_two_captures_at_once(device, recorded):
    """The gate stays shut until both ended, each once."""
    graphs = [torch.cuda.CUDAGraph() for _ in range(2)]
    streams = [torch.cuda.Stream() for _ in range(2)]
    for graph, stream in zip(graphs, streams, strict=True):
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="relaxed")
    for graph, stream in zip(graphs, streams, strict=True):
        assert is_shut()
        with torch.cuda.stream(stream):
            graph.capture_end()
    assert not is_shut()


def test_torch_is_as_it_was(device):
    """Identity, signature, documentation and pickling of what is patched; no error is reworded."""
    graph = torch.cuda.CUDAGraph
    originals = dict(vars(graph))
    with InMemoryTelemetry():
        for name in ("capture_begin", "capture_end", "capture_end_pre", "replay"):
            ours, original = getattr(graph, name), originals[name]
            assert ours is not original
            assert inspect.signature(original) == inspect.signature(ours)
            assert original.__doc__ == ours.__doc__
            assert original.__qualname__ == ours.__qualname__
            assert pickle.loads(pickle.dumps(ours)) is ours
        with pytest.raises(TypeError, match=r"ScriptedGraph\.replay\(\) takes 1 positional"):
            graph().replay(1)
    assert originals == dict(vars(graph))


def test_somebody_who_patched_over_us(device, caplog):
    """Their replay stays and ours underneath records nothing any more."""
    graph, _ = captured(Encoder(), batch())
    kind, original = torch.cuda.CUDAGraph, torch.cuda.CUDAGraph.replay
    with InMemoryTelemetry() as recorded:
        ours = kind.replay
        kind.replay = lambda self: ours(self)
        graph.replay()
        assert 1 == len(recorded.records())
    graph.replay()
    assert 1 == len(recorded._exporter.get_finished_spans())
    kind.replay = original


def test_dynamo_does_not_look_inside(monkeypatch, uninstrumented):
    """A replay in a compiled function is one graph break and as many graphs as without us."""
    import torch._dynamo
    from torch._dynamo.testing import CompileCounter
    from torch._dynamo.utils import counters

    # Stands for torch's class, which can't be made without a GPU: by its file Dynamo leaves it out.
    scope = {"__name__": "torch.cuda.graphs", "replays": []}
    source = (
        "class CUDAGraph:\n"
        "    def capture_begin(self): pass\n"
        "    def capture_end(self): pass\n"
        "    def replay(self): replays.append(1)\n"
    )
    exec(compile(source, torch.cuda.graphs.__file__, "exec"), scope)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", scope["CUDAGraph"])
    graph = torch.cuda.CUDAGraph()

    def compiled():
        torch._dynamo.reset()
        counters.clear()
        backend = CompileCounter()

        @torch.compile(backend=backend)
        def function(x):
            y = x + 1
            graph.replay()
            return y * 2

        results = [function(torch.ones(2)).tolist() for _ in range(3)]
        return results, backend.frame_count, backend.op_count

    expected = compiled()
    uninstrumented.instrument()
    assert expected == compiled()
    assert [1] * 6 == scope["replays"]
    assert ["graph_replay"] * 3 == [span["name"] for span in uninstrumented.inferences()]
    torch._dynamo.reset()
