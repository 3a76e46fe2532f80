"""Replays of CUDA graphs on a scripted device are inferences."""

import gc
import weakref

import pytest
import torch
from torch import nn

import warpspan
from tests.support.graphs import Decoder, Encoder, batch, captured, names
from warpspan.testing import InMemoryTelemetry

pytestmark = pytest.mark.scripted_device(op_time_s=0.001)


def test_a_replay_is_an_inference_of_the_model_that_was_captured(device, recorded):
    """Named as the model, with the input of the captured call and the time of the replay."""
    model, x = Encoder(), batch()
    graph, output = captured(model, x)
    with torch.no_grad():
        x.fill_(3.0)
        graph.replay()
        (record,) = recorded.records()
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


def test_what_is_known_of_a_graph(device, recorded):
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
        (record.model.name, record.input.batch_size) for record in recorded.records()
    ]


def test_a_graph_from_before_instrumentation(device):
    """Its replay is an inference of an unknown model."""
    graph, _ = captured(Encoder(), batch())
    with InMemoryTelemetry() as recorded:
        graph.replay()
        assert [("graph_replay", None)] == names(recorded)


def test_a_graph_captured_anew(device, recorded):
    """It is what it was captured as last."""
    graph, x = torch.cuda.CUDAGraph(), batch()
    for model in (Encoder(), Decoder()):
        with torch.no_grad(), torch.cuda.graph(graph):
            model(x)
        graph.replay()
    assert [("graph_replay", "Encoder"), ("graph_replay", "Decoder")] == names(recorded)


def test_nothing_keeps_a_graph_or_its_model(device, recorded):
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
    assert [("graph_replay", "Encoder")] == names(recorded)


def test_a_replay_inside_a_model_is_part_of_it(device, recorded):
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
    first, second = recorded.records()
    assert ("forward", "Model") == (first.operation, first.model.name)
    assert second.timing.device_time_s == pytest.approx(device.captures[0].duration_s)
    assert [False] == [capture.invalidated for capture in device.captures]


def test_a_replay_is_a_step_of_a_named_inference(device, recorded):
    """And what is captured inside is none: nothing is computed."""
    model, x = Encoder(), batch()
    with warpspan.inference("generate"):
        graph, _ = captured(model, x)
        graph.replay()
        graph.replay()
    (record,) = recorded.records()
    assert ("generate", "Encoder", 2, 2) == (
        record.operation,
        record.model.name,
        record.steps.total,
        record.input.batch_size,
    )


def test_training_is_no_inference(device, recorded):
    """A whole step that was captured with gradients in training mode, unless it is asked for."""
    model, x = Encoder().train(), batch()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(x)
    graph.replay()
    assert [] == recorded.records()
    recorded.__exit__(None, None, None)
    with InMemoryTelemetry(training=True) as asked:
        with torch.cuda.graph(graph):
            model(x)
        graph.replay()
        assert [("graph_replay", "Encoder")] == names(asked)


def test_a_backward_is_no_inference(device, recorded):
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
    assert [] == recorded.records()


def test_an_excluded_model_is_excluded_in_a_graph(device):
    """By the name that it had when it was captured."""
    with InMemoryTelemetry(excluded_models=("Enc*",)) as recorded:
        for model in (Encoder(), Decoder()):
            captured(model, batch())[0].replay()
        assert [("graph_replay", "Decoder")] == names(recorded)


def test_a_replay_that_fails(device, recorded):
    """The caller gets torch's own error, the span has its class."""
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        torch.cuda.CUDAGraph().replay()
    (record,) = recorded.records()
    assert "RuntimeError" == record.error_type


@pytest.mark.skipif(torch.__version__ < (2, 6), reason="runs a backward without gradients, too")
def test_make_graphed_callables(device, recorded):
    """A module's calls are its inferences as before; a function's are replays of its model."""
    x = batch()
    with torch.no_grad():
        graphed = torch.cuda.make_graphed_callables(Encoder(), (x,))
        recorded.records()
        recorded._exporter.clear()
        graphed(x)
        assert [("forward", "Encoder")] == names(recorded)
        recorded._exporter.clear()
        model = Decoder()
        function = torch.cuda.make_graphed_callables(lambda x: model(x) + 1, (x,))
        recorded.records()
        recorded._exporter.clear()
        expected = model(x) + 1
        assert torch.equal(expected.cpu(), function(x).cpu())
    assert [("forward", "Decoder"), ("graph_replay", "Decoder")] == names(recorded)
    assert {False} == {capture.invalidated for capture in device.captures}


@pytest.mark.scripted_device(count=2, op_time_s=0.001)
def test_a_replay_runs_where_it_was_captured(recorded):
    """Whatever device is current when it is replayed."""
    with torch.cuda.device(1):
        graph, _ = captured(Encoder(), batch())
    graph.replay()
    (record,) = recorded.records()
    assert ("cuda", 1) == record.device[:2]
