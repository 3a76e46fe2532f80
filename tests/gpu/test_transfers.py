"""On a real device: copies and waits on the span equal what torch's own tools say of them."""

import runpy
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from warpspan import guard
from warpspan.testing import InMemoryTelemetry

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device"),
]

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"


@pytest.fixture
def telemetry():
    guard.forget()
    torch.cuda.init()
    with InMemoryTelemetry() as entered:
        yield entered
    assert {} == dict(guard.faults)


class Encoder(nn.Module):
    """Token ids in, a pooled embedding out, with a number read in between."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30_000, 512)
        layer = nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)

    def forward(self, tokens, mask):
        hidden = self.layers(self.embed(tokens))
        if mask.sum().item() == 0:
            return hidden
        return (hidden * mask.unsqueeze(-1)).mean(1)


@pytest.fixture
def model(telemetry):
    return Encoder().cuda().half().eval()


def copies_of(profiled):
    """Count and bytes of the profiler's copies over the bus, by direction."""
    counts, sizes = Counter(), Counter()
    for event in profiled.profiler.kineto_results.events():
        for name, way in (("HtoD", "h2d"), ("DtoH", "d2h")):
            if "memcpy" in event.name().lower() and name in event.name():
                counts[way] += 1
                sizes[way] += event.nbytes()
    return counts, sizes


@pytest.mark.real_gpu("CUPTI")
@pytest.mark.parametrize("pinned", [False, True])
@torch.inference_mode()
def test_copies_are_those_of_the_profiler(telemetry, model, pinned, record_property):
    """Bytes and counts, of inputs before the call and of outputs after it."""
    from torch.profiler import ProfilerActivity, profile

    tokens, mask = torch.randint(30_000, (64, 512)), torch.ones(64, 512)
    big = torch.randn(4096, 1024)
    if pinned:
        tokens, mask, big = tokens.pin_memory(), mask.pin_memory(), big.pin_memory()

    def infer():
        inputs = [x.to("cuda", non_blocking=pinned) for x in (tokens, mask.half(), big)]
        return model(*inputs[:2]).float().cpu()

    infer()
    torch.cuda.synchronize()
    telemetry.records()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        infer()
        torch.cuda.synchronize()
    counts, sizes = copies_of(profiled)
    record = telemetry.records()[-1]
    h2d, d2h = record.transfers.h2d, record.transfers.d2h
    record_property("h2d_bytes_per_s", h2d.bytes_per_s)
    assert (counts["h2d"], counts["d2h"]) == (h2d.total, d2h.total)
    assert counts["h2d"] == 3
    if all(sizes.values()):  # old versions of Kineto give no bytes
        assert (sizes["h2d"], sizes["d2h"]) == (h2d.nbytes, d2h.nbytes)
    # mask.half() made a pageable copy of a pinned tensor.
    assert h2d.nbytes - (tokens.nbytes + big.nbytes if pinned else 0) == h2d.pageable_bytes


@torch.inference_mode()
def test_the_time_of_a_copy_is_that_of_the_bus(telemetry, model, record_property):
    """A pinned gigabyte, against events of the test's own around the same copy."""
    x = torch.empty(1 << 28, dtype=torch.float32).pin_memory()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    x.to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    start.record()
    target = torch.empty_like(x, device="cuda")
    torch._C.TensorBase.copy_(target, x, True)
    end.record()
    torch.cuda.synchronize()
    with telemetry.tracer_provider.get_tracer("host").start_as_current_span("request"):
        target.copy_(x, non_blocking=True)
        model(torch.zeros(1, 8, dtype=torch.int64, device="cuda"), torch.ones(1, 8, device="cuda"))
    record = telemetry.records()[-1]
    expected_s = start.elapsed_time(end) / 1e3
    record_property("h2d_bytes_per_s", record.transfers.h2d.bytes_per_s)
    assert expected_s == pytest.approx(record.transfers.h2d.time_s, rel=0.05)


@torch.inference_mode()
def test_stalled_time_is_what_the_caller_waits(telemetry, model):
    """Within five percent of a stopwatch around the calls."""
    tokens = torch.zeros(1, 8, dtype=torch.int64, device="cuda")
    mask = torch.ones(1, 8, device="cuda")
    model(tokens, mask)
    torch.cuda.synchronize()
    telemetry.records()
    model(tokens, mask)
    waited_s = 0.0
    for _ in range(5):
        torch.cuda._sleep(50_000_000)
        began = time.perf_counter()
        torch.cuda.synchronize()
        waited_s += time.perf_counter() - began
        # The record must not be taken before the last of them: each keeps the device busy anew.
    record = telemetry.records()[-1]
    synchronize = {kind.kind: kind for kind in record.syncs.kinds}.get("synchronize")
    if synchronize is None or synchronize.total < 5:
        pytest.skip("the inference was finished between two waits")
    assert waited_s == pytest.approx(synchronize.stalled_s, rel=0.05)


@torch.inference_mode()
def test_stalled_time_inside_an_inference(telemetry):
    """Within five percent, for the kinds that a forward meets."""
    waited = Counter()

    class Waits(nn.Linear):
        def forward(self, x):
            for kind, wait in (
                ("item", lambda: x[0, 0].item()),
                ("bool", lambda: bool(x[0, 0])),
                ("cpu", x.cpu),
                ("tolist", x.tolist),
                ("synchronize", torch.cuda.synchronize),
                ("stream", torch.cuda.current_stream().synchronize),
            ):
                torch.cuda._sleep(50_000_000)
                began = time.perf_counter()
                wait()
                waited[kind] += time.perf_counter() - began
            return x

    model = Waits(8, 8).cuda().eval()
    x = torch.ones(8, 8, device="cuda")
    model(x)
    waited.clear()
    model(x)
    record = telemetry.records()[-1]
    stalled = {kind.kind: kind.stalled_s for kind in record.syncs.kinds}
    assert {kind: pytest.approx(spent, rel=0.05) for kind, spent in waited.items()} == stalled


@torch.inference_mode()
def test_we_add_no_synchronization(telemetry, model, no_waits):
    """torch raises at each synchronizing call; asynchronous copies stay asynchronous."""
    pinned = torch.zeros(64, 512, dtype=torch.int64).pin_memory()
    mask = torch.ones(64, 512, device="cuda", dtype=torch.float16)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    with no_waits():
        model.embed(pinned.to("cuda", non_blocking=True)).to("cpu", non_blocking=True)
        mask.copy_(mask.to(torch.float32))
        with pytest.raises(RuntimeError, match="synchronizing"):
            mask[0, 0].item()  # the program's own
    torch.cuda.synchronize()
    assert before == torch.cuda.memory_allocated()
    assert 1 == len(telemetry.records())


@torch.inference_mode()
def test_an_asynchronous_copy_returns_before_the_device_is_there(telemetry, model):
    """Behind a kernel that only sleeps."""
    pinned = torch.zeros(1 << 20).pin_memory()
    pinned.to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    torch.cuda._sleep(200_000_000)
    pinned.to("cuda", non_blocking=True)
    assert not torch.cuda.current_stream().query()
    torch.cuda.synchronize()


def test_two_cards(telemetry):
    """A copy between two of them."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two devices")
    model = nn.Linear(8, 8).cuda().eval()
    x = torch.zeros(1 << 20, device="cuda:0")

    def copies(*args):
        x.to("cuda:1")

    model.register_forward_hook(copies)
    with torch.inference_mode():
        model(torch.zeros(1, 8, device="cuda"))
    record = telemetry.records()[-1]
    assert (1, 4 << 20) == record.transfers.d2d[:2]


@torch.inference_mode()
def test_a_small_part_of_a_copy_is_ours(telemetry, model, record_property):
    """What a copy of 4 KiB and an `item()` cost the caller, with and without us."""
    small, one = torch.zeros(1024).pin_memory(), torch.zeros((), device="cuda")
    originals = torch._C.TensorBase

    def spent_ns(call, times=2000):
        call()
        torch.cuda.synchronize()
        began = time.perf_counter_ns()
        for _ in range(times):
            call()
        torch.cuda.synchronize()
        return (time.perf_counter_ns() - began) / times

    for name, ours, theirs in (
        (
            "to",
            lambda: small.to("cuda", non_blocking=True),
            lambda: originals.to(small, "cuda", non_blocking=True),
        ),
        ("item", one.item, lambda: originals.item(one)),
    ):
        record_property(f"{name}_ns", spent_ns(ours))
        record_property(f"{name}_original_ns", spent_ns(theirs))


@pytest.mark.parametrize("example", ["input_bound.py", "hidden_sync.py"])
def test_examples(telemetry, example, monkeypatch):
    """What holds them back is on their spans."""
    monkeypatch.setattr("sys.argv", [example])
    runpy.run_path(str(EXAMPLES / example), run_name="__main__")
    record = telemetry.records()[3]  # not the last one: what the program waits for after it
    if example == "hidden_sync.py":
        assert 37 == {kind.kind: kind.total for kind in record.syncs.kinds}["item"]
        assert str(EXAMPLES / example) == record.syncs.repeated_site.file
    else:
        h2d = record.transfers.h2d
        assert (32 << 20, 32 << 20) == (h2d.nbytes, h2d.pageable_bytes)
        assert h2d.device_share > 1
