"""Every copy over the bus, on the span of the inference that it belongs to."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch
from torch import nn

from warpspan import guard
from warpspan.probes import transfers as probe
from warpspan.records import SyncKind, Transfer, Transfers
from warpspan.testing import InMemoryTelemetry, ScriptedDevice

MIB = 1 << 20
GB_S = 1e9


@pytest.fixture
def device():
    guard.forget()
    with ScriptedDevice(count=2) as entered:
        entered.h2d_bytes_per_s = 16 * GB_S
        entered.h2d_pageable_bytes_per_s = 4 * GB_S
        entered.d2h_bytes_per_s = 16 * GB_S
        entered.d2h_pageable_bytes_per_s = 2 * GB_S
        entered.d2d_bytes_per_s = 64 * GB_S
        yield entered
    assert {} == dict(guard.faults)


@pytest.fixture
def telemetry(device):
    with InMemoryTelemetry() as entered:
        yield entered


class Runs(nn.Module):
    """Launches a kernel, then does what it is given."""

    def __init__(self, device, length_s=0.010, where="cuda:0"):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, device=where), requires_grad=False)
        self.device, self.length_s = device, length_s
        self.eval()

    def forward(self, action=lambda: None):
        self.device.launch(self.length_s)
        return action()


@pytest.fixture
def model(telemetry, device):
    model = Runs(device)
    yield model
    model._parameters.clear()


def host(mib=1, *, pinned=False, dtype=torch.uint8):
    """A tensor in host memory."""
    made = torch.zeros(mib * MIB // torch.empty(0, dtype=dtype).element_size(), dtype=dtype)
    return made.pin_memory() if pinned else made


def on_card(mib=1, index=0, dtype=torch.uint8):
    """A tensor on a card, made there."""
    elements = mib * MIB // torch.empty(0, dtype=dtype).element_size()
    return torch.zeros(elements, device=f"cuda:{index}", dtype=dtype)


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
def test_a_copy_to_the_device(device, telemetry, model, copy, pinned, waits, attribution):
    """Bytes, whether the host's side was pageable, the time of the copy, and who waited for it."""
    values = host(pinned=pinned)
    model()
    telemetry.records()  # what was pinned is the first one's
    if attribution == "inside":
        device.length_s = 0.0
        model(lambda: copy(values))
    else:
        copy(values)
        model()
    record = telemetry.records()[-1]
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
def test_a_copy_from_the_device(device, telemetry, model, copy, pageable, waits, attribution):
    """Inside the inference, or after its call while the device still works on it."""
    values = on_card()
    if attribution == "inside":
        model(lambda: copy(values))
    else:
        model()
        copy(values)
    (record,) = telemetry.records()
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
def test_a_copy_between_two_cards(device, telemetry, model, copy):
    """Nobody waits, and no host memory is in it."""
    values = on_card()
    model(lambda: copy(values))
    (record,) = telemetry.records()
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
def test_what_crosses_no_bus(telemetry, model, copy):
    """Copies within host memory or one card, and of nothing."""
    values = host()
    model(lambda: copy(values))
    (record,) = telemetry.records()
    assert (None, None) == (record.transfers, record.syncs)


def test_a_copy_that_fails(telemetry, model):
    """The error is torch's own."""

    def fails():
        with pytest.raises(RuntimeError, match="ordinal"):
            host().to("cuda:7")
        with pytest.raises((RuntimeError, TypeError)):
            host().to("nowhere")
        with pytest.raises(TypeError):
            host().to("cuda", speed=1)

    model(fails)
    (record,) = telemetry.records()
    assert None is record.transfers


def test_small_copies_are_counted_and_not_timed(telemetry, model):
    """Two events would cost more than they measure."""
    model(lambda: torch.zeros(8).to("cuda"))
    (record,) = telemetry.records()
    assert Transfers(Transfer(1, 32, 32, 0)) == record.transfers


def test_a_conversion_crosses_in_the_smaller_or_larger_type_as_torch_does_it():
    """Blocking: on the host. Asynchronous: on the device (torch's Copy.cu)."""
    from warpspan.hooks.torch.transfers import _crossed, _Move

    float_, half = torch.zeros(8), torch.zeros(8, dtype=torch.float16)
    assert (16, True) == _crossed(_Move("h2d", 0, float_, None, asynchronous=False), half)
    assert (32, True) == _crossed(_Move("h2d", 0, float_, None, asynchronous=True), half)
    assert (32, True) == _crossed(_Move("d2h", 0, float_, None, asynchronous=False), half)
    assert (16, True) == _crossed(_Move("d2h", 0, float_, None, asynchronous=True), half)


def test_a_pinned_tensor_that_does_not_lie_in_one_piece(telemetry, model):
    """torch copies it by way of pageable memory; channels-last lies in one piece."""
    pinned = torch.zeros(2, 3, 4, 4).pin_memory()
    model(lambda: pinned[:, :, ::2].to("cuda"))
    model(lambda: pinned.contiguous(memory_format=torch.channels_last).pin_memory().to("cuda"))
    pageable = [record.transfers.h2d.pageable_bytes for record in telemetry.records()]
    assert [192, 0] == pageable


def test_pinning(device, telemetry, model):
    """What was pinned for an inference, and how long that took on the host."""
    x = host()
    x.pin_memory().to("cuda", non_blocking=True)
    model()
    (record,) = telemetry.records()
    assert (1, MIB, 0.0) == record.transfers[3:]


@pytest.mark.parametrize("how", ["parameter", "Module.to", "Module.cuda", "Module.cpu"])
def test_weights_are_told_from_inputs(device, telemetry, model, how):
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
    records = telemetry.records()
    if how == "Module.cpu":
        assert MIB + 4096 == records[2].transfers.d2h.weight_bytes
        assert 0 == records[2].transfers.h2d.weight_bytes
    else:
        weights = MIB if how == "parameter" else MIB + 4096
        h2d = records[1].transfers.h2d
        assert (weights + 512, weights) == (h2d.nbytes, h2d.weight_bytes)
    paged._parameters.clear()


def test_a_model_that_is_loaded_is_no_transfer_of_its_first_inference(device, telemetry):
    """Before any inference weights are loaded, not paged; the input is there."""
    model = Runs(device, where="cpu").cuda()
    host().cuda()
    model()
    (record,) = telemetry.records()
    assert (1, MIB, 0) == (
        record.transfers.h2d.total,
        record.transfers.h2d.nbytes,
        record.transfers.h2d.weight_bytes,
    )


def test_accelerate_offloads_weights(device, telemetry):
    """accelerate's hooks move each weight by this function of its own."""
    accelerate = pytest.importorskip("accelerate")
    set_tensor = accelerate.utils.set_module_tensor_to_device
    model = Runs(device)
    model.register_buffer("table", on_card(dtype=torch.float32))
    value = host(dtype=torch.float32)
    model(lambda: set_tensor(model, "table", "cuda:0", value=value))
    (record,) = telemetry.records()
    h2d = record.transfers.h2d
    assert (MIB, MIB) == (h2d.nbytes, h2d.weight_bytes)


def test_copies_in_a_capture_are_not_made(device, telemetry, model):
    """They are part of a graph, and not of the inference that captures it."""
    pinned = host(pinned=True)
    card = on_card()

    def capture():
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="relaxed"):
            card.copy_(pinned, non_blocking=True)

    model(capture)
    record = telemetry.records()[-1]
    assert None is record.transfers or None is record.transfers.h2d
    assert [False] == [capture.invalidated for capture in device.captures]


def test_copies_on_another_stream(device, telemetry, model):
    """Timed on the stream that they run on, and waited for by nobody but the finisher."""
    pinned = host(8, pinned=True)

    def prefetch():
        with torch.cuda.stream(torch.cuda.Stream()):
            pinned.to("cuda", non_blocking=True)

    model(prefetch)
    (record,) = telemetry.records()
    assert 8 * MIB / (16 * GB_S) == pytest.approx(record.transfers.h2d.time_s)
    assert {} == dict(device.synchronizations)


def test_each_inference_has_its_own_inputs(device, telemetry, model):
    """Copies since the one before: none of them counts twice, and none is lost."""
    for mib in (1, 2, 3):
        host(mib).to("cuda")
        model()
    assert [MIB, 2 * MIB, 3 * MIB] == [r.transfers.h2d.nbytes for r in telemetry.records()]


def test_the_input_of_the_next_and_the_output_of_the_last(device, telemetry, model):
    """Between two inferences each copy goes its own way."""
    outputs = on_card(2)
    model()
    host().to("cuda")
    outputs.cpu()
    model()
    first, second = telemetry.records()
    assert Transfers(d2h=first.transfers.d2h) == first.transfers
    assert 2 * MIB == first.transfers.d2h.nbytes
    assert Transfers(h2d=second.transfers.h2d) == second.transfers
    assert (SyncKind("to", 1, pytest.approx(0.010 + MIB / (4 * GB_S))),) == second.syncs.kinds


def test_nothing_is_carried_across_requests(device, telemetry, model):
    """Inside a request span that somebody else opened, nothing of another one is counted."""
    tracer = telemetry.tracer_provider.get_tracer("host")
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
    second, third = telemetry.records()
    assert None is second.transfers
    assert (4 * MIB, 3 * MIB) == (third.transfers.h2d.nbytes, third.transfers.d2h.nbytes)


def test_requests_that_take_turns_in_asyncio(device, telemetry):
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
        for record in telemetry.records()
    )
    assert [(1, 10), (1, 10), (2, 20), (2, 20), (3, 30), (3, 30)] == sizes
    for model in models:
        model._parameters.clear()


def test_requests_on_threads(device, telemetry):
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
    sizes = sorted(record.transfers.h2d.nbytes // MIB for record in telemetry.records())
    assert [1, 1, 1, 2, 2, 2, 3, 3, 3] == sizes
    for model in models:
        model._parameters.clear()


def test_batches_of_a_training_loop_are_nobodys(device, telemetry, model):
    """The call in between is not recorded, and what arrived before was for it."""
    training = nn.Linear(4, 4).cuda()
    for _ in range(5):
        host().to("cuda")
        training(torch.zeros(1, 4, device="cuda"))
    host(2).to("cuda")
    model()
    (record,) = telemetry.records()
    assert 2 * MIB == record.transfers.h2d.nbytes
    training._parameters.clear()


@pytest.mark.parametrize(("excluded", "nbytes"), [("Linear", 2 * MIB), ("ReLU", 3 * MIB)])
def test_inputs_of_a_call_that_is_not_recorded(device, excluded, nbytes):
    """Those of an excluded model are its own; a module without parameters only passes them on."""
    with InMemoryTelemetry(excluded_models="Linear") as telemetry:
        model, other = Runs(device), nn.Linear(4, 4).eval().cuda()
        with torch.inference_mode():
            host().to("cuda")
            (other if excluded == "Linear" else nn.ReLU())(torch.zeros(1, 4, device="cuda"))
            host(2).to("cuda")
            model()
        (record,) = telemetry.records()
        other._parameters.clear()
    assert nbytes == record.transfers.h2d.nbytes


def test_events_of_copies_are_used_again(device, telemetry, model, monkeypatch):
    """The pool does not grow with the number of copies."""
    made = []
    event = torch.cuda.Event
    monkeypatch.setattr(torch.cuda, "Event", lambda **options: made.append(1) or event(**options))
    probe.forget_events()
    for _ in range(50):
        host().to("cuda")
        model()
        telemetry.records()
    assert len(made) <= 8


def test_more_copies_than_are_timed(device, telemetry, model, monkeypatch):
    """All are counted; a time of some of them would be wrong, so there is none."""
    monkeypatch.setattr(probe, "_TIMED_MAX", 2)
    values = host()
    model(lambda: [values.to("cuda") for _ in range(3)])
    (record,) = telemetry.records()
    h2d = record.transfers.h2d
    assert (3, 3 * MIB, None, None) == (h2d.total, h2d.nbytes, h2d.time_s, h2d.bytes_per_s)


def test_no_copy_becomes_blocking(device, telemetry, model):
    """The program's own synchronizations and no other, in any order of copies."""
    pinned, card = host(pinned=True), on_card()
    for _ in range(5):
        pinned.to("cuda", non_blocking=True)
        model(lambda: card.to("cuda:1"))
        card.to("cpu", non_blocking=True)
    telemetry.records()
    assert {} == dict(device.synchronizations)
    copies = [call.name for call in device.calls if call.name.startswith("memcpy")]
    assert 15 == len(copies)


def test_the_data_loader_pins_on_a_thread_of_its_own(device, telemetry, model):
    """Its batches arrive pinned; pinning them is not the inference's."""
    pinned = host(pinned=True)
    telemetry.records()
    pinned.to("cuda", non_blocking=True)
    model()
    record = telemetry.records()[-1]
    assert 0 == record.transfers.h2d.pageable_bytes
