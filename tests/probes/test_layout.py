"""The batch of a model's input is where its layers' contracts put it, and absent in doubt."""

import pytest
import torch
from torch import nn

from warpspan.probes import inputs
from warpspan.probes.layout import UNKNOWN, layout_of

TOKENS = torch.int64


class Whole(nn.Module):
    """A model of the user's own that holds layers."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)


class Inside(nn.Module):
    """Holds a layer below another module."""

    def __init__(self, layer):
        super().__init__()
        self.inner = Whole(nn.Linear(4, 4), layer)


def seen(module, shape, dtype=torch.float32):
    """Batch and sequence of an input of this shape."""
    described = inputs.describe(
        inputs.look((torch.zeros(shape, dtype=dtype),), {}, layout_of(module))
    )
    return described.batch_size, described.sequence_length


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers(kind):
    """The sequence is first unless `batch_first`; two dimensions have no batch."""
    assert (2, 50) == seen(kind(4, 4), (50, 2, 4))
    assert (2, 50) == seen(kind(4, 4, batch_first=True), (2, 50, 4))
    assert (None, 7) == seen(kind(4, 4), (7, 4))
    assert (None, 7) == seen(kind(4, 4, batch_first=True), (7, 4))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda first: nn.TransformerEncoderLayer(4, 2, 8, batch_first=first),
        lambda first: nn.TransformerDecoderLayer(4, 2, 8, batch_first=first),
        lambda first: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(4, 2, 8, batch_first=first), 1, enable_nested_tensor=False
        ),
        lambda first: nn.Transformer(4, 2, 1, 1, 8, batch_first=first),
        lambda first: nn.MultiheadAttention(4, 2, batch_first=first),
    ],
)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_attention_layers(make, first):
    """As recurrent ones."""
    assert (2, 50) == seen(make(first), (2, 50, 4) if first else (50, 2, 4))
    assert (None, 7) == seen(make(first), (7, 4))


@pytest.mark.parametrize(
    ("layer", "batched", "single"),
    [
        (nn.Conv1d(3, 3, 1), (2, 3, 9), (3, 9)),
        (nn.Conv2d(3, 3, 1), (2, 3, 9, 9), (3, 9, 9)),
        (nn.ConvTranspose2d(3, 3, 1), (2, 3, 9, 9), (3, 9, 9)),
        (nn.Conv3d(3, 3, 1), (2, 3, 9, 9, 9), (3, 9, 9, 9)),
    ],
)
@pytest.mark.parametrize("wrap", [lambda layer: layer, Whole, Inside, nn.Sequential])
def test_convolutions(layer, batched, single, wrap):
    """One dimension less is one input without a batch, for a model that holds one, too."""
    assert (2, None) == seen(wrap(layer), batched)
    assert (None, None) == seen(wrap(layer), single)


@pytest.mark.parametrize("wrap", [Whole, Inside])
def test_a_model_around_a_layer_whose_sequence_is_first(wrap):
    """Three dimensions, and two of tokens, may have either order; an image has its batch first."""
    model = wrap(nn.LSTM(4, 4))
    assert (None, None) == seen(model, (50, 2, 4))
    assert (None, None) == seen(model, (50, 2), TOKENS)
    assert (2, None) == seen(model, (2, 3, 8, 8))


def test_a_model_around_a_layer_whose_batch_is_first():
    """Three dimensions and tokens have it; two of numbers may be one sequence."""
    model = Whole(nn.Embedding(9, 4), nn.LSTM(4, 4, batch_first=True))
    assert (2, None) == seen(model, (2, 50, 4))
    assert (2, 50) == seen(model, (2, 50), TOKENS)
    assert (None, None) == seen(model, (50, 4))


def test_the_first_layer_of_a_sequence_of_layers_takes_the_input():
    """What comes later says nothing of it."""
    assert (2, 50) == seen(nn.Sequential(nn.LSTM(4, 4), nn.Linear(4, 4)), (50, 2, 4))
    assert (7, None) == seen(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), (7, 4))


def test_plain_layers():
    """The batch is first, from two dimensions on."""
    assert (7, None) == seen(nn.Linear(4, 4), (7, 4))
    assert (None, None) == seen(nn.Linear(4, 4), (4,))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.filterwarnings("ignore:.*torch.(ao|quantize).*")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_layers_in_other_forms():
    """Scripted and quantized ones keep the contract; a trace keeps no `batch_first`."""
    assert (2, 50) == seen(torch.jit.script(nn.LSTM(4, 4)), (50, 2, 4))
    traced = torch.jit.trace(nn.LSTM(4, 4), torch.zeros(50, 2, 4))
    assert (None, None) == seen(traced, (50, 2, 4))
    quantized = torch.ao.quantization.quantize_dynamic(nn.LSTM(4, 4), {nn.LSTM})
    assert (2, 50) == seen(quantized, (50, 2, 4))


def test_a_graph_network():
    """Its rows are nodes, whatever the layers around are; known by its library."""
    layer = type("GCNConv", (nn.Module,), {"__module__": "torch_geometric.nn.conv"})()
    assert UNKNOWN == layout_of(Whole(nn.Linear(4, 4), layer))
    assert UNKNOWN == layout_of(layer)


def test_a_library_whose_models_take_the_batch_first():
    """Its layers may turn the input as they like."""
    model = type("CLIP", (Whole,), {"__module__": "open_clip.model"})(nn.MultiheadAttention(4, 2))
    assert (2, 50) == seen(model, (2, 50), TOKENS)


def test_a_list_of_images():
    """torchvision's detectors take one; any other model's list may be anything."""
    module = {"__module__": "torchvision.models.detection.faster_rcnn"}
    detector = type("FasterRCNN", (Whole,), module)(nn.Conv2d(3, 3, 1))
    images = [torch.zeros(3, 8, 8), torch.zeros(3, 9, 9)]
    assert 2 == inputs.look((images,), {}, layout_of(detector))
    assert inputs.look((images,), {}, layout_of(Whole(nn.Conv2d(3, 3, 1)))) is None
