"""CUDA graphs on a scripted device: replays are inferences, captures are left alone."""

import gc
import inspect
import pickle
import threading
import weakref

import pytest
import torch
from torch import nn

import warpspan
from warpspan import guard
from warpspan.instrumentor import active_session
from warpspan.probes import capture
from warpspan.testing import InMemoryTelemetry, ScriptedDevice

WAIT_S = 30.0


@pytest.fixture
def device():
    guard.forget()
    with ScriptedDevice() as entered:
        entered.op_time_s = 0.001
        yield entered
    assert {} == dict(guard.faults)


@pytest.fixture
def telemetry(device):
    with InMemoryTelemetry() as entered:
        yield entered


class Encoder(nn.Linear):
    def __init__(self):
        super().__init__(4, 4, device="cuda")
        self.eval()


class Decoder(Encoder):
    pass


def batch():
    return torch.ones(2, 4, device="cuda")


def captured(function, *args, **options):
    """A graph of a call, and what the call gave."""
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph, **options):
        output = function(*args)
    return graph, output


def names(telemetry):
    return [(record.operation, record.model.name) for record in telemetry.records()]


def test_a_replay_is_an_inference_of_the_model_that_was_captured(device, telemetry):
    """Named as the model, with the input of the captured call and the time of the replay."""
    model, x = Encoder(), batch()
    graph, output = captured(model, x)
    with torch.no_grad():
        x.fill_(3.0)
        graph.replay()
        (record,) = telemetry.records()
        assert torch.equal(model(x).cpu(), output.cpu())
    assert ("graph_replay", "Encoder", 20, False) == (
        record.operation,
        record.model.name,
        record.model.parameter_count,
        record.model.compiled,
    )
    assert ("cuda", 0) == record.device[:2]
    assert (2, (2, 4)) == (record.input.batch_size, tuple(record.input.shape))
    assert 0.0 < device.captures[0].duration_s == pytest.approx(record.timing.device_time_s)
    assert record.timing.idle_time_s is None


def test_what_is_known_of_a_graph(device, telemetry):
    """A name only where one model is in it, an input only where it was called once."""
    encoder, decoder, x = Encoder(), Decoder(), batch()
    for function in (
        lambda: x * 2,
        lambda: decoder(encoder(x)),
        lambda: encoder(encoder(x)),
        lambda: nn.ReLU()(encoder(x)),
    ):
        captured(function)[0].replay()
    assert [(None, None), (None, None), ("Encoder", None), ("Encoder", 2)] == [
        (record.model.name, record.input.batch_size) for record in telemetry.records()
    ]


def test_a_graph_from_before_instrumentation(device):
    """Its replay is an inference of an unknown model."""
    graph, _ = captured(Encoder(), batch())
    with InMemoryTelemetry() as telemetry:
        graph.replay()
        assert [("graph_replay", None)] == names(telemetry)


def test_a_graph_captured_anew(device, telemetry):
    """It is what it was captured as last."""
    graph, x = torch.cuda.CUDAGraph(), batch()
    for model in (Encoder(), Decoder()):
        with torch.no_grad(), torch.cuda.graph(graph):
            model(x)
        graph.replay()
    assert [("graph_replay", "Encoder"), ("graph_replay", "Decoder")] == names(telemetry)


def test_nothing_keeps_a_graph_or_its_model(device, telemetry):
    """Both are gone with their owner's last reference; a replay after its model still is named."""
    model, x = Encoder(), batch()
    graph, _ = captured(model, x)
    gone = []
    for thing in (model, graph):
        weakref.finalize(thing, gone.append, type(thing).__name__)
    del model, thing
    device.captures[0].work.clear()
    gc.collect()
    graph.replay()
    del graph
    gc.collect()
    assert ["Encoder", "ScriptedGraph"] == gone
    assert [("graph_replay", "Encoder")] == names(telemetry)


def test_a_replay_inside_a_model_is_part_of_it(device, telemetry):
    """As with make_graphed_callables of a module, and torch.compile's reduce-overhead."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Encoder()
            self.graph, self.output = None, None

        def forward(self, x):
            if self.graph is None:
                self.graph, self.output = captured(self.encoder, x)
            self.graph.replay()
            return self.output

    model, x = Model().eval(), batch()
    model(x)
    model(x)
    first, second = telemetry.records()
    assert ("forward", "Model") == (first.operation, first.model.name)
    assert second.timing.device_time_s == pytest.approx(device.captures[0].duration_s)
    assert [False] == [capture.invalidated for capture in device.captures]


def test_a_replay_is_a_step_of_a_named_inference(device, telemetry):
    """And what is captured inside is none: nothing is computed."""
    model, x = Encoder(), batch()
    with warpspan.inference("generate"):
        graph, _ = captured(model, x)
        graph.replay()
        graph.replay()
    (record,) = telemetry.records()
    assert ("generate", "Encoder", 2, 2) == (
        record.operation,
        record.model.name,
        record.steps.total,
        record.input.batch_size,
    )


def test_training_is_no_inference(device, telemetry):
    """A whole step that was captured with gradients in training mode, unless it is asked for."""
    model, x = Encoder().train(), batch()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(x)
    graph.replay()
    assert [] == telemetry.records()
    telemetry.__exit__(None, None, None)
    with InMemoryTelemetry(training=True) as asked:
        with torch.cuda.graph(graph):
            model(x)
        graph.replay()
        assert [("graph_replay", "Encoder")] == names(asked)


def test_a_backward_is_no_inference(device, telemetry):
    """Graphs of backward passes replay inside autograd's."""
    graph, _ = captured(lambda: torch.ones(2, device="cuda") * 2)

    class Graphed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            graph.replay()
            return grad

    Graphed.apply(torch.ones(2, requires_grad=True)).sum().backward()
    assert [] == telemetry.records()


def test_an_excluded_model_is_excluded_in_a_graph(device):
    """By the name that it had when it was captured."""
    with InMemoryTelemetry(excluded_models=("Enc*",)) as telemetry:
        for model in (Encoder(), Decoder()):
            captured(model, batch())[0].replay()
        assert [("graph_replay", "Decoder")] == names(telemetry)


def test_a_replay_that_fails(device, telemetry):
    """The caller gets torch's own error, the span has its class."""
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        torch.cuda.CUDAGraph().replay()
    (record,) = telemetry.records()
    assert "RuntimeError" == record.error_type


@pytest.mark.skipif(torch.__version__ < (2, 6), reason="runs a backward without gradients, too")
def test_make_graphed_callables(device, telemetry):
    """A module's calls are its inferences as before; a function's are replays of its model."""
    x = batch()
    with torch.no_grad():
        graphed = torch.cuda.make_graphed_callables(Encoder(), (x,))
        telemetry.records()
        telemetry._exporter.clear()
        graphed(x)
        assert [("forward", "Encoder")] == names(telemetry)
        telemetry._exporter.clear()
        model = Decoder()
        function = torch.cuda.make_graphed_callables(lambda x: model(x) + 1, (x,))
        telemetry.records()
        telemetry._exporter.clear()
        expected = model(x) + 1
        assert torch.equal(expected.cpu(), function(x).cpu())
    assert [("forward", "Decoder"), ("graph_replay", "Decoder")] == names(telemetry)
    assert {False} == {capture.invalidated for capture in device.captures}


def test_a_replay_runs_where_it_was_captured():
    """Whatever device is current when it is replayed."""
    guard.forget()
    with ScriptedDevice(count=2) as device, InMemoryTelemetry() as telemetry:
        device.op_time_s = 0.001
        with torch.cuda.device(1):
            graph, _ = captured(Encoder(), batch())
        graph.replay()
        (record,) = telemetry.records()
    assert ("cuda", 1) == record.device[:2]
    assert {} == dict(guard.faults)


def test_a_capture_on_another_device_than_the_current_one():
    """No event of ours gets into it: the stream is the one of the model's device."""
    guard.forget()
    with ScriptedDevice(count=2) as device, InMemoryTelemetry() as telemetry:
        with torch.cuda.device(1):
            model, x = Encoder(), batch()
            model(x)
            stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            open_capture = device._machine.begin_capture(stream.lane(), "global")
            with torch.cuda.device(0):
                model(x)
        device._machine.end_capture(open_capture)
        assert 1 == len(telemetry.records())
    assert not open_capture.invalidated
    assert {} == dict(guard.faults)


@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
def test_another_thread_infers_and_finishes_during_a_capture(device, telemetry, mode):
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
    records = telemetry.records()
    assert [False] == [capture.invalidated for capture in device.captures]
    assert 21 == len(records)
    assert None not in [record.timing.device_time_s for record in records]


def test_a_capture_that_begins_while_times_are_read(device, telemetry, monkeypatch):
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
    (record,) = telemetry.records()
    threads[0].join(WAIT_S)
    assert [False] == [capture.invalidated for capture in device.captures]
    assert record.timing.device_time_s is not None


def is_shut():
    return capture.gate.ask(lambda: True) is None


def test_the_gate_opens_again_after_captures_that_fail(device, telemetry):
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


def test_the_gate_opens_again_when_the_graph_is_gone(device, telemetry):
    """Whoever began the capture forgot to end it."""
    with torch.cuda.stream(torch.cuda.Stream()):
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin()
        assert is_shut()
        device._machine.end_capture(device.captures[0])
        del graph
        gc.collect()
        assert not is_shut()


def test_two_captures_at_once(device, telemetry):
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
    with InMemoryTelemetry() as telemetry:
        ours = kind.replay
        kind.replay = lambda self: ours(self)
        graph.replay()
        assert 1 == len(telemetry.records())
    graph.replay()
    assert 1 == len(telemetry._exporter.get_finished_spans())
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
