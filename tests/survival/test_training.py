"""Training is not inference: no span for a step, its checkpoints or its backward."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

X = torch.ones(2, 4)


class Model(nn.Module):
    """Its layers are checkpointed: the backward runs them again."""

    def __init__(self, use_reentrant=None):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.use_reentrant = use_reentrant
        self.calls = 0

    def forward(self, x):
        for layer in self.layers:
            self.calls += 1
            if self.use_reentrant is None:
                x = layer(x)
            else:
                x = checkpoint(layer, x, use_reentrant=self.use_reentrant)
        return x


def step(model, x=X):
    """One training step; the gradients that it gives."""
    model.zero_grad()
    model(x.clone().requires_grad_()).sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def test_training_steps_make_no_span(telemetry, expected):
    """Neither do evaluations of the loss; the validation between them does."""
    model, loss = Model().train(), nn.MSELoss()
    for _ in range(2):
        loss(model(X), torch.zeros(2, 4)).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
        model.eval()
        with torch.no_grad():
            model(X)
        model.train()
    assert [
        expected(model, (2, 4), first=True),
        expected(model, (2, 4)),
    ] == telemetry.inferences()


def test_training_on_request(uninstrumented, expected):
    """With the option on, the forward of a step is recorded, its backward is not."""
    uninstrumented.instrument(training=True)
    model = Model(use_reentrant=False).train()
    step(model)
    assert [expected(model, (2, 4), first=True)] == uninstrumented.inferences()


def test_training_mode_without_gradients(telemetry, expected):
    """A model that nobody put in eval mode infers all the same where gradients are off."""
    model = Model().train()
    with torch.no_grad():
        model(X)
    with torch.inference_mode():
        model(X)
    assert [
        expected(model, (2, 4), first=True),
        expected(model, (2, 4)),
    ] == telemetry.inferences()


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoints_of_a_training_step(uninstrumented, use_reentrant):
    """What the backward runs again is no inference; the gradients are the same."""
    model = Model(use_reentrant).train()
    before = step(model)
    uninstrumented.instrument()
    after = step(model)
    assert all(map(torch.equal, before, after))
    assert [] == uninstrumented.inferences()


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoints_in_eval_mode(telemetry, expected, use_reentrant):
    """A forward with gradients in eval mode is one inference; its backward adds none."""
    model = Model(use_reentrant).eval()
    step(model)
    assert [expected(model, (2, 4), first=True)] == telemetry.inferences()


def test_a_backward_inside_an_inference(telemetry, expected):
    """Gradients by the input, as attribution tools take them, are part of what the user named."""
    import warpspan

    model = Model(use_reentrant=False).eval()
    with warpspan.inference("explain", model=model):
        step(model)
    assert [
        expected(model, (2, 4), operation="explain", first=True, steps=1)
    ] == telemetry.inferences()


def test_loss_and_metrics_modules(telemetry):
    """Modules without parameters are not recorded outside of a model."""
    nn.CrossEntropyLoss()(X, torch.zeros(2, dtype=torch.long))
    nn.CosineSimilarity().eval()(X, X)
    assert [] == telemetry.inferences()


def test_distributed_data_parallel(program):
    """On gloo with one and with two processes: one inference a call, named as the model is."""
    found = [json.loads(line) for line in program("distributed.py").stdout.splitlines()]
    spans = [["forward Model", False, 2], ["forward Model", False, 2]]
    assert [
        {"world": 1, "rank": 0, "gradients": True, "spans": spans},
        {"world": 2, "rank": 0, "gradients": True, "spans": spans},
        {"world": 2, "rank": 1, "gradients": True, "spans": spans},
    ] == sorted(found, key=lambda line: (line["world"], line["rank"]))
