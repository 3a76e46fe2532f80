"""Every call that waits for the device, on the span of the inference that it belongs to."""

from __future__ import annotations

import contextvars
import operator
import sys
import threading

import numpy as np
import pytest
import torch

import warpspan
from tests.support import gpu
from tests.support.gpu import KERNEL_S
from warpspan.instrumentor import active_tracker
from warpspan.probes import transfers as probe
from warpspan.records import Site, SyncCall, SyncKind, SyncPlace, Syncs, Transfer, Transfers
from warpspan.testing import InMemoryTelemetry


class Runs(gpu.Runs):
    """Launches a kernel, then does what it is given with itself."""

    def forward(self, action=lambda model: None):
        return super().forward(lambda: action(self))


@pytest.fixture
def model(recorded, device):
    model = Runs(device)
    yield model
    model._parameters.clear()  # pytest still holds the model while the device looks for tensors


def element(model):
    return model.weight[0]


def whole(model):
    return torch.ones(3, device="cuda", dtype=torch.int64)


WAITS = {
    "torch.cuda.synchronize": ("synchronize", lambda m: torch.cuda.synchronize(), None),
    "Stream.synchronize": ("stream", lambda m: torch.cuda.current_stream().synchronize(), None),
    "Event.synchronize": (
        "event",
        lambda m: torch.cuda.current_stream().record_event().synchronize(),
        None,
    ),
    "item": ("item", lambda m: element(m).item(), (4, 0)),
    "tolist": ("tolist", lambda m: whole(m).tolist(), (24, 24)),
    "nonzero": ("nonzero", lambda m: whole(m).nonzero(), None),
    "bool": ("bool", lambda m: bool(element(m)), (4, 0)),
    "if": ("bool", lambda m: 1 if element(m) else 2, (4, 0)),
    "int": ("int", lambda m: int(element(m)), (4, 0)),
    "float": ("float", lambda m: float(element(m)), (4, 0)),
    "index": ("index", lambda m: operator.index(whole(m)[0]), (8, 0)),
    "list index": ("index", lambda m: [1, 2, 3][whole(m)[0]], (8, 0)),
    "contains": ("contains", lambda m: 1 in whole(m), (1, 0)),
    "cpu": ("cpu", lambda m: whole(m).cpu(), (24, 24)),
    "to": ("to", lambda m: whole(m).to("cpu"), (24, 24)),
    "to device": ("to", lambda m: whole(m).to(device=torch.device("cpu")), (24, 24)),
    "to other": ("to", lambda m: whole(m).to(torch.ones(1)), (24, 24)),
    "copy_": ("copy", lambda m: torch.empty(3, dtype=torch.int64).copy_(whole(m)), (24, 24)),
}
if hasattr(torch, "accelerator"):  # torch >= 2.6
    WAITS["torch.accelerator.synchronize"] = (
        "synchronize",
        lambda m: torch.accelerator.synchronize(),
        None,
    )


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_inside_an_inference(recorded, model, name):
    """One call, its kind, the time that the host stood still, what it read and where it is."""
    kind, action, read = WAITS[name]
    model(action)
    (record,) = recorded.records()
    site = record.syncs.longest_site
    assert (__file__, f"{__name__}.") == (site.file, site.function[: len(__name__) + 1])
    kinds, places = (SyncKind(kind, 1, KERNEL_S),), (SyncPlace(kind, *site, 1, KERNEL_S),)
    assert record.syncs == Syncs(
        total=1,
        stalled_s=KERNEL_S,
        longest_kind=kind,
        longest_s=KERNEL_S,
        longest_site=site,
        repeated_kind=None,
        repeated_site=None,
        kinds=kinds,
        places=places,
    )
    d2h = (
        None
        if read is None
        else Transfer(total=1, nbytes=read[0], pageable_bytes=read[1], weight_bytes=0)
    )
    assert (None if d2h is None else Transfers(d2h=d2h)) == record.transfers


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_after_an_inference_that_its_device_still_works_on(device, recorded, model, name):
    """It waits for the inference, though its call has returned."""
    kind, action, _ = WAITS[name]
    model()
    action(model)
    (record,) = recorded.records()
    assert 0.0 == record.duration_s
    assert (1, KERNEL_S, kind) == record.syncs[:3]


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_that_nobody_is_told_of(device, recorded, model, name):
    """Before any inference, after one that is finished, or by a thread of its own."""
    _, action, _ = WAITS[name]
    action(model)
    model()
    recorded.records()
    action(model)
    model()
    thread = threading.Thread(target=action, args=(model,))
    thread.start()
    thread.join()
    assert [None, None] == [record.syncs for record in recorded.records()]


def test_we_add_no_wait(device, recorded, model):
    """As many synchronizations as the program asks for, by it alone."""
    for _, action, _ in WAITS.values():
        model(action)
    recorded.records()
    assert {"MainThread": len(WAITS)} == dict(device.synchronizations)


def test_many_short_waits(device, recorded, model):
    """`.item()` 37 times in one forward is read from one span, with its place."""

    def loop(model):
        for _ in range(37):
            device.launch(0.0001)
            element(model).item()

    model(loop)
    (span,) = recorded.spans()
    attributes = span.attributes
    assert (("item",), (37,)) == (
        attributes["pytorch.sync.kinds"],
        attributes["pytorch.sync.counts"],
    )
    assert "item" == attributes["pytorch.sync.repeated.kind"]
    assert __file__ == attributes["pytorch.sync.repeated.code.file.path"]
    assert attributes["pytorch.sync.repeated.code.function.name"].endswith("loop")
    assert KERNEL_S + 37 * 0.0001 == pytest.approx(attributes["pytorch.sync.time"])


def test_a_short_wait_has_no_place(device, recorded, model):
    """Below half a millisecond nobody walks the stack."""

    def short(model):
        device.complete()
        device.launch(0.0004)
        torch.cuda.synchronize()

    model(short)
    (record,) = recorded.records()
    assert (0.0004, None) == (record.syncs.longest_s, record.syncs.longest_site)


def test_time_by_kind_and_place(device, recorded, model):
    """The longest wait has its own time only: the many of middling length have theirs."""

    def decode():
        for _ in range(48):
            device.launch(0.010)
            element(model).item()

    def handle(model):
        device.complete()
        device.launch(0.020)
        whole(model).cpu()
        decode()

    model(handle)
    (record,) = recorded.records()
    decoding, handling = record.syncs.places
    assert ("item", 48, pytest.approx(0.480)) == (
        decoding.kind,
        decoding.total,
        decoding.stalled_s,
    )
    assert ("cpu", 1, pytest.approx(0.020)) == (handling.kind, handling.total, handling.stalled_s)
    assert ("decode", "handle") == (
        decoding.function.rpartition(".")[2],
        handling.function.rpartition(".")[2],
    )
    assert handling.site == record.syncs.longest_site


def test_one_of_many_short_waits_has_its_place(device, recorded, model):
    """Each is too short to walk the stack for; the eighth stands for them, with its own time."""

    def loop(model):
        device.complete()
        for _ in range(37):
            device.launch(0.0001)
            element(model).item()

    model(loop)
    (record,) = recorded.records()
    (place,) = record.syncs.places
    assert place == SyncPlace("item", *record.syncs.repeated_site, 1, pytest.approx(0.0001))
    assert (SyncKind("item", 37, pytest.approx(0.0037)),) == record.syncs.kinds


def test_the_places_are_bounded():
    """The eight with the most time are told, of the first 64; all waits are in the sums."""
    counters = probe.SyncCopyCounters()
    for line in range(1, 101):
        counters.wait(SyncCall.ITEM, line * 1_000_000, Site("app.py", line, "app.f"))
    syncs, _ = counters.describe(None)
    assert list(range(64, 56, -1)) == [place.line for place in syncs.places]
    assert (SyncKind("item", 100, 5.05),) == syncs.kinds


def test_the_place_is_the_users_line():
    """Past the frames of torch and warpspan."""
    here = probe.call_site(sys._getframe())
    assert Site(__file__, here.line, here.function) == here
    assert here.function.endswith("test_the_place_is_the_users_line")


def test_a_call_that_raises_is_no_wait(recorded, model):
    """The error is torch's own, and nothing is counted."""

    def fails(model):
        with pytest.raises(RuntimeError, match="cannot be converted to Scalar"):
            model.weight.item()

    model(fails)
    (record,) = recorded.records()
    assert (None, None) == (record.syncs, record.transfers)


def test_numpy_of_a_tensor_on_the_device(recorded, model):
    """Without `force` it raises as ever, also from NumPy; nothing is counted."""

    def fails(model):
        for convert in (torch.Tensor.numpy, np.asarray):
            with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor"):
                convert(model.weight.detach())

    model(fails)
    (record,) = recorded.records()
    assert None is record.syncs


def test_waits_of_the_inner_inference_are_its_own(device, recorded, model):
    """An inference inside another one: each wait is on exactly one span."""

    def outer(model):
        element(model).item()
        with warpspan.inference("inner", model=model):
            element(model).item()
            torch.cuda.synchronize()
        element(model).item()

    model(outer)
    counted = {record.operation: record.syncs.total for record in recorded.records()}
    assert {"forward": 2, "inner": 2} == counted


def test_waits_of_steps_are_the_inferences(device, recorded, model):
    """Inside its steps and between them."""
    with warpspan.inference("loop", model=model):
        for _ in range(3):
            model(lambda model: element(model).item())
            torch.cuda.synchronize()
    (record,) = recorded.records()
    assert (
        SyncKind("item", 3, pytest.approx(3 * KERNEL_S)),
        SyncKind("synchronize", 3, 0.0),
    ) == record.syncs.kinds


def test_threads_that_work_for_one_inference(device, recorded, model):
    """With its context: their waits are the inference's."""

    def spread(model):
        def work():
            torch.cuda.synchronize()

        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    model(spread)
    (record,) = recorded.records()
    assert 4 == record.syncs.total


def test_a_wait_that_still_runs_when_the_device_is_done(device, recorded, model):
    """The record waits for it, and no longer than the bound."""
    model()
    turn = active_tracker().attribution.waited_for()
    device.complete()
    assert not warpspan.flush(0.05)
    turn.counters.wait(SyncCall.SYNCHRONIZE, 5_000_000)
    del turn
    (record,) = recorded.records()
    assert (1, 0.005) == record.syncs[:2]


def test_a_wait_that_never_returns_holds_nothing_up(device, recorded, model, monkeypatch):
    """After the bound the inference is recorded without it, and what comes then is nobody's."""
    monkeypatch.setattr(probe, "_HOLD_NS", 0)
    model()
    turn = active_tracker().attribution.waited_for()
    (record,) = recorded.records()
    assert None is record.syncs
    assert not turn.counters.enter()


def test_switched_off(device):
    """`transfers=False` leaves the methods alone."""
    with InMemoryTelemetry(transfers=False) as recorded:
        before = dict(vars(torch.Tensor))
        Runs(device)(lambda model: element(model).item())
        assert before == dict(vars(torch.Tensor))
        (record,) = recorded.records()
    assert (None, None) == (record.syncs, record.transfers)


def test_metrics(device, recorded, model):
    """Calls and time by kind, summed over inferences; copies and bytes by direction and memory."""
    for _ in range(3):
        model(lambda model: element(model).item())
        model(lambda model: whole(model).cpu())

    def points(name, label):
        return {
            point.attributes[label]: pytest.approx(point.value)
            for point in recorded.metrics()[f"pytorch.inference.{name}"]
        }

    assert {"item": 3, "cpu": 3} == points("sync.calls", "pytorch.sync.kind")
    waited = {"item": 3 * KERNEL_S, "cpu": 3 * KERNEL_S}
    assert waited == points("sync.time", "pytorch.sync.kind")
    assert {"d2h": 6} == points("transfer.copies", "pytorch.transfer.direction")
    assert {"pinned": 12, "pageable": 72} == points("transfer.io", "pytorch.transfer.memory")
