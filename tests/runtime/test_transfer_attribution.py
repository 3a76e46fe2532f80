"""Whose copies are: of the inference that they are made for, whatever runs beside it."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch
from torch import nn

from tests.support.gpu import GB_S, MIB, Runs, host, on_card
from warpspan.records import SyncKind, Transfers
from warpspan.testing import InMemoryTelemetry

pytestmark = pytest.mark.scripted_device(h2d_pageable_bytes_per_s=4 * GB_S)


@pytest.fixture
def model(recorded, device):
    model = Runs(device)
    yield model
    model._parameters.clear()  # pytest still holds the model while the device looks for tensors


def test_each_inference_has_its_own_inputs(device, recorded, model):
    """Copies since the one before: none of them counts twice, and none is lost."""
    for mib in (1, 2, 3):
        host(mib).to("cuda")
        model()
    assert [MIB, 2 * MIB, 3 * MIB] == [r.transfers.h2d.nbytes for r in recorded.records()]


def test_the_input_of_the_next_and_the_output_of_the_last(device, recorded, model):
    """Between two inferences each copy goes its own way."""
    outputs = on_card(2)
    model()
    host().to("cuda")
    outputs.cpu()
    model()
    first, second = recorded.records()
    assert Transfers(d2h=first.transfers.d2h) == first.transfers
    assert 2 * MIB == first.transfers.d2h.nbytes
    assert Transfers(h2d=second.transfers.h2d) == second.transfers
    assert (SyncKind("to", 1, pytest.approx(0.010 + MIB / (4 * GB_S))),) == second.syncs.kinds


def test_nothing_is_carried_across_requests(device, recorded, model):
    """Inside a request span that somebody else opened, nothing of another one is counted."""
    tracer = recorded.tracer_provider.get_tracer("host")
    with tracer.start_as_current_span("first"):
        host().to("cuda")  # never used
    with tracer.start_as_current_span("second"):
        model()
    with tracer.start_as_current_span("third"):
        on_card().cpu()
        host(2).to("cuda")
        with tracer.start_as_current_span("inside the third"):
            host(2).to("cuda")
        model()
        on_card(3).cpu()
    second, third = recorded.records()
    assert None is second.transfers
    assert (4 * MIB, 3 * MIB) == (third.transfers.h2d.nbytes, third.transfers.d2h.nbytes)


def test_requests_that_take_turns_in_asyncio(device, recorded):
    """Each task's copies are its own inference's, however they are interleaved."""
    models = [Runs(device) for _ in range(3)]
    inputs = [host(number + 1, pinned=True) for number in range(3)]
    outputs = [on_card(10 * (number + 1)) for number in range(3)]

    async def request(number):
        for _ in range(2):
            await asyncio.sleep(0)
            inputs[number].to("cuda", non_blocking=True)
            await asyncio.sleep(0)
            models[number]()
            await asyncio.sleep(0)
            outputs[number].to("cpu", non_blocking=True)
            await asyncio.sleep(0)

    async def serve():
        host(5).to("cuda")  # of the task that starts the others: nobody's
        await asyncio.gather(*(request(number) for number in range(3)))

    asyncio.run(serve())
    sizes = sorted(
        (record.transfers.h2d.nbytes // MIB, record.transfers.d2h.nbytes // MIB)
        for record in recorded.records()
    )
    assert [(1, 10), (1, 10), (2, 20), (2, 20), (3, 30), (3, 30)] == sizes
    for model in models:
        model._parameters.clear()


def test_requests_on_threads(device, recorded):
    """Each thread's copies are its own inference's."""
    barrier = threading.Barrier(3)
    models = [Runs(device) for _ in range(3)]

    def request(number):
        for _ in range(3):
            barrier.wait(30)
            host(number + 1).to("cuda")
            barrier.wait(30)
            models[number]()

    threads = [threading.Thread(target=request, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sizes = sorted(record.transfers.h2d.nbytes // MIB for record in recorded.records())
    assert [1, 1, 1, 2, 2, 2, 3, 3, 3] == sizes
    for model in models:
        model._parameters.clear()


def test_batches_of_a_training_loop_are_nobodys(device, recorded, model):
    """The call in between is not recorded, and what arrived before was for it."""
    training = nn.Linear(4, 4).cuda()
    for _ in range(5):
        host().to("cuda")
        training(torch.zeros(1, 4, device="cuda"))
    host(2).to("cuda")
    model()
    (record,) = recorded.records()
    assert 2 * MIB == record.transfers.h2d.nbytes
    training._parameters.clear()


@pytest.mark.parametrize(("excluded", "nbytes"), [("Linear", 2 * MIB), ("ReLU", 3 * MIB)])
def test_inputs_of_a_call_that_is_not_recorded(device, excluded, nbytes):
    """Those of an excluded model are its own; a module without parameters only passes them on."""
    with InMemoryTelemetry(excluded_models="Linear") as recorded:
        model, other = Runs(device), nn.Linear(4, 4).eval().cuda()
        with torch.inference_mode():
            host().to("cuda")
            (other if excluded == "Linear" else nn.ReLU())(torch.zeros(1, 4, device="cuda"))
            host(2).to("cuda")
            model()
        (record,) = recorded.records()
        other._parameters.clear()
    assert nbytes == record.transfers.h2d.nbytes
