"""A scripted device takes CUDA's place, and gives it back."""

import gc
import uuid

import pytest
import torch
import torch._dynamo

import warpspan.probes.clock
from warpspan.testing import ScriptedClock, ScriptedDevice

NAMESPACES = [
    torch,
    torch._C,
    torch.Tensor,
    torch.backends.cudnn,
    torch.cuda,
    torch.cuda.graphs,
    torch.cuda.graphs.graph,
    torch.cuda.memory,
    torch.cuda.streams,
    torch.utils,
    warpspan.probes.clock,
    *([torch.cuda._cudart] if torch.cuda._cudart is not None else []),
]


def everything():
    """Every attribute of what a scripted device may patch."""
    return [dict(vars(namespace)) for namespace in NAMESPACES]


def changes(before, after):
    """What is not the same object any more."""
    return {
        name
        for old, new in zip(before, after, strict=True)
        for name in old.keys() | new.keys()
        if old.get(name) is not new.get(name)
    }


def test_torch_is_as_it_was():
    """Every patched attribute is the same object again, also after an exception."""
    before, cudnn = everything(), torch._C._get_cudnn_enabled()

    def use():
        with ScriptedDevice():
            torch.ones(1, device="cuda").cpu()
            assert {"Stream", "Event", "CUDAGraph", "to", "tensor", "host_ns"} <= changes(
                before, everything()
            )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    assert (set(), cudnn) == (changes(before, everything()), torch._C._get_cudnn_enabled())
    assert not torch.cuda.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a real CUDA device")
def test_cuda_is_missing_again():
    """After the block this machine has no CUDA, whichever way one asks for it."""
    with ScriptedDevice():
        torch.ones(1, device="cuda").cpu()
    for ask in (
        lambda: torch.ones(1, device="cuda"),
        lambda: torch.ones(1).to("cuda"),
        lambda: torch.ones(1).cuda(),
        lambda: torch.cuda.current_stream(),
        lambda: torch.ones(1).pin_memory(),
    ):
        with pytest.raises((RuntimeError, AssertionError)):
            ask()


def test_what_torch_says_of_the_device():
    """torch.cuda describes the scripted devices, and is initialised by its first use."""
    uuids = ["GPU-b2d5f1b6-0000-4000-8000-00000000000a", "b2d5f1b6-0000-4000-8000-00000000000b"]
    with ScriptedDevice(count=2, name="Card", total_memory=1 << 30, uuids=uuids):
        assert (True, 2, False) == (
            torch.cuda.is_available(),
            torch.cuda.device_count(),
            torch.cuda.is_initialized(),
        )
        properties = torch.cuda.get_device_properties(1)
        assert ("Card", 1 << 30, uuid.UUID(uuids[1]), (9, 0)) == (
            properties.name,
            properties.total_memory,
            properties.uuid,
            torch.cuda.get_device_capability(1),
        )
        assert ("Card", True) == (torch.cuda.get_device_name(), torch.cuda.is_initialized())
        assert torch.cuda.is_bf16_supported()


def test_torch_accelerator():
    """torch.accelerator, where torch has it, is the scripted device."""
    accelerator = getattr(torch, "accelerator", None)
    if accelerator is None:
        return
    with ScriptedDevice(count=2) as device:
        assert (True, 2) == (accelerator.is_available(), accelerator.device_count())
        accelerator.set_device_index(1)
        assert 1 == torch.cuda.current_device()
        device.launch(1.0)
        assert torch.cuda.current_stream() == accelerator.current_stream()
        accelerator.synchronize()
        assert [("torch.accelerator.synchronize", "MainThread", 1.0)] == [
            call[:3] for call in device.calls
        ]


def test_warpspan_reads_the_scripted_clock():
    """Its host and wall time follow the device's clock inside the block, the given one."""
    real = warpspan.probes.clock.host_ns
    clock = ScriptedClock(wall_ns=1_000)
    with ScriptedDevice(clock=clock) as device:
        assert device.clock is clock
        before_ns = warpspan.probes.clock.host_ns()
        device.launch(1.5)
        device.complete()
        assert 1_500_000_000 == warpspan.probes.clock.host_ns() - before_ns
        assert 1_500_001_000 == warpspan.probes.clock.wall_ns()
    assert real is warpspan.probes.clock.host_ns


def test_one_at_a_time():
    """A second device is refused while one is entered, and works after it."""
    first, second = ScriptedDevice(), ScriptedDevice()
    with first, pytest.raises(RuntimeError, match="entered already: give it a higher `count`"):
        second.__enter__()
    with second:
        assert torch.cuda.is_available()


@pytest.mark.parametrize(("count", "uuids"), [(0, None), (2, ["x"]), (1, [])])
def test_counts_must_fit(count, uuids):
    """No device, or another number of UUIDs, is refused."""
    with pytest.raises(ValueError, match=rf"ScriptedDevice: {count} devices"):
        ScriptedDevice(count=count, uuids=uuids)


def test_a_tensor_outlives_its_device():
    """Using it after the block, or on the next device, is one clear error."""
    with ScriptedDevice():
        model = torch.nn.Linear(2, 2).cuda()
        x = torch.ones(1, 2, device="cuda")
    with pytest.raises(RuntimeError, match="No ScriptedDevice is entered"):
        model(x)
    with ScriptedDevice(), pytest.raises(RuntimeError, match="on a ScriptedDevice that was left"):
        model(x)
    del model, x
    gc.collect()


def test_a_compiled_model_runs_uncompiled():
    """It gives its results as it was written, and is compiled when the block is left."""
    compiled_graphs = []

    def backend(graph, inputs):
        compiled_graphs.append(graph)
        return graph

    model = torch.nn.Linear(4, 2).eval()
    x = torch.randn(3, 4)
    with torch.no_grad():
        expected = model(x)
        compiled = torch.compile(model, backend=backend, fullgraph=True)
        with ScriptedDevice():
            assert torch.equal(expected, compiled.cuda()(x.cuda()).cpu())
            assert ("OptimizedModule", 0) == (type(compiled).__name__, len(compiled_graphs))
            compiled.cpu()
        assert torch.equal(expected, compiled(x))
    assert 1 == len(compiled_graphs)


def test_a_backward_pass_is_refused():
    """It raises instead of ending the process."""
    with ScriptedDevice(), pytest.raises(RuntimeError):
        torch.nn.Linear(2, 2).cuda()(torch.ones(1, 2, device="cuda")).sum().backward()
