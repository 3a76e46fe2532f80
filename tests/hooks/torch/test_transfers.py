"""Every copy over the bus, on the span of the inference that it belongs to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.gpu import GB_S, MIB, Runs, host, on_card
from warpspan.probes import transfers as probe
from warpspan.records import Transfer, Transfers

pytestmark = pytest.mark.scripted_device(
    count=2,
    h2d_bytes_per_s=16 * GB_S,
    h2d_pageable_bytes_per_s=4 * GB_S,
    d2h_bytes_per_s=16 * GB_S,
    d2h_pageable_bytes_per_s=2 * GB_S,
    d2d_bytes_per_s=64 * GB_S,
)


@pytest.fixture
def model(recorded, device):
    model = Runs(device)
    yield model
    model._parameters.clear()  # pytest still holds the model while the device looks for tensors


def times(nbytes, rate, device_s=0.010):
    """Time, bandwidth and share of a copy that takes as long as it must."""
    spent = pytest.approx(nbytes / rate)
    return spent, pytest.approx(rate), pytest.approx(nbytes / rate / device_s)


@pytest.mark.parametrize("attribution", ["inside", "before"])
@pytest.mark.parametrize(
    ("copy", "pinned", "waits"),
    [
        (lambda x: x.to("cuda"), False, "to"),
        (lambda x: x.to("cuda:0"), False, "to"),
        (lambda x: x.to(0), False, "to"),
        (lambda x: x.to(device=torch.device("cuda", 0)), False, "to"),
        (lambda x: x.to(on_card()), False, "to"),
        (lambda x: x.cuda(), False, "cuda"),
        (lambda x: x.cuda(0), False, "cuda"),
        (lambda x: on_card().copy_(x), False, "copy"),
        (lambda x: x.to("cuda", non_blocking=True), False, "to"),
        (lambda x: x.to("cuda"), True, "to"),
        (lambda x: x.to("cuda", non_blocking=True), True, None),
        (lambda x: x.to("cuda", None, True), True, None),
        (lambda x: x.to(on_card(), non_blocking=True), True, None),
        (lambda x: x.cuda(non_blocking=True), True, None),
        (lambda x: on_card().copy_(x, non_blocking=True), True, None),
        (lambda x: on_card().copy_(x, True), True, None),
    ],
)
def test_a_copy_to_the_device(device, recorded, model, copy, pinned, waits, attribution):
    """Bytes, whether the host's side was pageable, the time of the copy, and who waited for it."""
    values = host(pinned=pinned)
    model()
    recorded.records()  # what was pinned is the first one's
    if attribution == "inside":
        device.length_s = 0.0
        model(lambda: copy(values))
    else:
        copy(values)
        model()
    record = recorded.records()[-1]
    rate = (16 if pinned else 4) * GB_S
    device_s = record.timing.device_time_s
    assert (
        Transfers(Transfer(1, MIB, 0 if pinned else MIB, 0, *times(MIB, rate, device_s)))
        == record.transfers
    )
    kinds = () if record.syncs is None else tuple(kind[:2] for kind in record.syncs.kinds)
    assert kinds == (() if waits is None else ((waits, 1),))


@pytest.mark.parametrize("attribution", ["inside", "after"])
@pytest.mark.parametrize(
    ("copy", "pageable", "waits"),
    [
        (lambda x: x.cpu(), True, "cpu"),
        (lambda x: x.to("cpu"), True, "to"),
        (lambda x: x.to("cpu", non_blocking=True), False, None),
        (lambda x: host().copy_(x), True, "copy"),
        (lambda x: x.tolist(), True, "tolist"),
    ],
)
def test_a_copy_from_the_device(device, recorded, model, copy, pageable, waits, attribution):
    """Inside the inference, or after its call while the device still works on it."""
    values = on_card()
    if attribution == "inside":
        model(lambda: copy(values))
    else:
        model()
        copy(values)
    (record,) = recorded.records()
    d2h = record.transfers.d2h
    assert (1, MIB, MIB if pageable else 0, 0) == d2h[:4]
    kinds = () if record.syncs is None else tuple(kind[:2] for kind in record.syncs.kinds)
    assert kinds == (() if waits is None else ((waits, 1),))
    if waits != "tolist":
        assert MIB / ((2 if pageable else 16) * GB_S) == pytest.approx(d2h.time_s)


@pytest.mark.parametrize(
    "copy",
    [
        lambda x: x.to("cuda:1"),
        lambda x: x.cuda(1),
        lambda x: on_card(index=1).copy_(x),
        lambda x: x.to("cuda:1", non_blocking=True),
    ],
)
def test_a_copy_between_two_cards(device, recorded, model, copy):
    """Nobody waits, and no host memory is in it."""
    values = on_card()
    model(lambda: copy(values))
    (record,) = recorded.records()
    assert Transfers(
        d2d=Transfer(1, MIB, 0, 0, *times(MIB, 64 * GB_S, record.timing.device_time_s))
    ) == (record.transfers)
    assert None is record.syncs


@pytest.mark.parametrize(
    "copy",
    [
        lambda x: x.to(torch.float32),
        lambda x: x.to("cpu"),
        lambda x: x.to(torch.device("cpu"), torch.int32),
        lambda x: x.cpu(),
        lambda x: torch.empty_like(x).copy_(x),
        lambda x: on_card().to("cuda:0"),
        lambda x: on_card().to(torch.float32),
        lambda x: on_card().cuda(),
        lambda x: on_card().copy_(on_card()),
        lambda x: torch.empty(0).to("cuda"),
    ],
)
def test_what_crosses_no_bus(recorded, model, copy):
    """Copies within host memory or one card, and of nothing."""
    values = host()
    model(lambda: copy(values))
    (record,) = recorded.records()
    assert (None, None) == (record.transfers, record.syncs)


def test_a_copy_that_fails(recorded, model):
    """The error is torch's own."""

    def fails():
        with pytest.raises(RuntimeError, match="ordinal"):
            host().to("cuda:7")
        with pytest.raises((RuntimeError, TypeError)):
            host().to("nowhere")
        with pytest.raises(TypeError):
            host().to("cuda", speed=1)

    model(fails)
    (record,) = recorded.records()
    assert None is record.transfers


def test_small_copies_are_counted_and_not_timed(recorded, model):
    """Two events would cost more than they measure."""
    model(lambda: torch.zeros(8).to("cuda"))
    (record,) = recorded.records()
    assert (
        Transfers(Transfer(total=1, nbytes=32, pageable_bytes=32, weight_bytes=0))
        == record.transfers
    )


def test_a_conversion_crosses_in_the_smaller_or_larger_type_as_torch_does_it():
    """Blocking: on the host. Asynchronous: on the device (torch's Copy.cu)."""
    from warpspan.hooks.torch.transfers import _crossed, _Move

    float_, half = torch.zeros(8), torch.zeros(8, dtype=torch.float16)
    assert (16, True) == _crossed(_Move("h2d", 0, float_, None, asynchronous=False), half)
    assert (32, True) == _crossed(_Move("h2d", 0, float_, None, asynchronous=True), half)
    assert (32, True) == _crossed(_Move("d2h", 0, float_, None, asynchronous=False), half)
    assert (16, True) == _crossed(_Move("d2h", 0, float_, None, asynchronous=True), half)


def test_a_pinned_tensor_that_does_not_lie_in_one_piece(recorded, model):
    """torch copies it by way of pageable memory; channels-last lies in one piece."""
    pinned = torch.zeros(2, 3, 4, 4).pin_memory()
    model(lambda: pinned[:, :, ::2].to("cuda"))
    model(lambda: pinned.contiguous(memory_format=torch.channels_last).pin_memory().to("cuda"))
    pageable = [record.transfers.h2d.pageable_bytes for record in recorded.records()]
    assert [192, 0] == pageable


def test_pinning(device, recorded, model):
    """What was pinned for an inference, and how long that took on the host."""
    x = host()
    x.pin_memory().to("cuda", non_blocking=True)
    model()
    (record,) = recorded.records()
    assert (1, MIB, 0.0) == record.transfers[3:]


@pytest.mark.parametrize("how", ["parameter", "Module.to", "Module.cuda", "Module.cpu"])
def test_weights_are_told_from_inputs(device, recorded, model, how):
    """Parameters and buffers that are paged in or out for an inference, beside its input."""
    paged = nn.Linear(256, 1024, bias=False)
    paged.register_buffer("table", torch.zeros(1024))
    model()
    x = torch.zeros(128)
    if how == "parameter":
        paged.weight.to("cuda")
    elif how == "Module.cpu":
        paged.to("cuda")
        model()
        model(lambda: (x.to("cuda"), paged.cpu()))
    else:
        paged.to("cuda") if how == "Module.to" else paged.cuda()
    x.to("cuda")
    model()
    records = recorded.records()
    if how == "Module.cpu":
        assert MIB + 4096 == records[2].transfers.d2h.weight_bytes
        assert 0 == records[2].transfers.h2d.weight_bytes
    else:
        weights = MIB if how == "parameter" else MIB + 4096
        h2d = records[1].transfers.h2d
        assert (weights + 512, weights) == (h2d.nbytes, h2d.weight_bytes)
    paged._parameters.clear()


def test_a_model_that_is_loaded_is_no_transfer_of_its_first_inference(device, recorded):
    """Before any inference weights are loaded, not paged; the input is there."""
    model = Runs(device, where="cpu").cuda()
    host().cuda()
    model()
    (record,) = recorded.records()
    assert (1, MIB, 0) == (
        record.transfers.h2d.total,
        record.transfers.h2d.nbytes,
        record.transfers.h2d.weight_bytes,
    )


def test_accelerate_offloads_weights(device, recorded):
    """accelerate's hooks move each weight by this function of its own."""
    accelerate = pytest.importorskip("accelerate")
    set_tensor = accelerate.utils.set_module_tensor_to_device
    model = Runs(device)
    model.register_buffer("table", on_card(dtype=torch.float32))
    value = host(dtype=torch.float32)
    model(lambda: set_tensor(model, "table", "cuda:0", value=value))
    (record,) = recorded.records()
    h2d = record.transfers.h2d
    assert (MIB, MIB) == (h2d.nbytes, h2d.weight_bytes)


def test_copies_in_a_capture_are_not_made(device, recorded, model):
    """They are part of a graph, and not of the inference that captures it."""
    pinned = host(pinned=True)
    card = on_card()

    def capture():
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="relaxed"):
            card.copy_(pinned, non_blocking=True)

    model(capture)
    record = recorded.records()[-1]
    assert None is record.transfers or None is record.transfers.h2d
    assert [False] == [capture.invalidated for capture in device.captures]


def test_copies_on_another_stream(device, recorded, model):
    """Timed on the stream that they run on, and waited for by nobody but the finisher."""
    pinned = host(8, pinned=True)

    def prefetch():
        with torch.cuda.stream(torch.cuda.Stream()):
            pinned.to("cuda", non_blocking=True)

    model(prefetch)
    (record,) = recorded.records()
    assert 8 * MIB / (16 * GB_S) == pytest.approx(record.transfers.h2d.time_s)
    assert {} == dict(device.synchronizations)


def test_events_of_copies_are_used_again(device, recorded, model, monkeypatch):
    """The pool does not grow with the number of copies."""
    made = []
    event = torch.cuda.Event
    monkeypatch.setattr(torch.cuda, "Event", lambda **options: made.append(1) or event(**options))
    monkeypatch.setattr(probe, "_pools", {})
    for _ in range(50):
        host().to("cuda")
        model()
        recorded.records()
    assert len(made) <= 8


def test_more_copies_than_are_timed(device, recorded, model, monkeypatch):
    """All are counted; a time of some of them would be wrong, so there is none."""
    monkeypatch.setattr(probe, "_TIMED_MAX", 2)
    values = host()
    model(lambda: [values.to("cuda") for _ in range(3)])
    (record,) = recorded.records()
    h2d = record.transfers.h2d
    assert (3, 3 * MIB, None, None) == (h2d.total, h2d.nbytes, h2d.time_s, h2d.bytes_per_s)


def test_no_copy_becomes_blocking(device, recorded, model):
    """The program's own synchronizations and no other, in any order of copies."""
    pinned, card = host(pinned=True), on_card()
    for _ in range(5):
        pinned.to("cuda", non_blocking=True)
        model(lambda: card.to("cuda:1"))
        card.to("cpu", non_blocking=True)
    recorded.records()
    assert {} == dict(device.synchronizations)
    copies = [call.name for call in device.calls if call.name.startswith("memcpy")]
    assert 15 == len(copies)


def test_the_data_loader_pins_on_a_thread_of_its_own(device, recorded, model):
    """Its batches arrive pinned; pinning them is not the inference's."""
    pinned = host(pinned=True)
    recorded.records()
    pinned.to("cuda", non_blocking=True)
    model()
    record = recorded.records()[-1]
    assert 0 == record.transfers.h2d.pageable_bytes
