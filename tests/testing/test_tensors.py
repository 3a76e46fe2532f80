"""Tensors and models on a scripted device: the CPU's results, the device's costs."""

import copy
import math
import threading
import weakref

import pytest
import torch

MIB = 1 << 20

pytestmark = pytest.mark.scripted_device(count=2)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def copies(device):
    """The copies so far: name, bytes, pageable, seconds waited."""
    return [
        (call.name, call.nbytes, call.pageable, call.stall_s)
        for call in device.calls
        if call.name.startswith("memcpy")
    ]


class Convolutional(torch.nn.Sequential):
    def __init__(self):
        super().__init__(
            torch.nn.Conv2d(3, 8, 3),
            torch.nn.BatchNorm2d(8),
            torch.nn.GELU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(72, 2),
        )


def recurrent(kind):
    return lambda: kind(4, 8, num_layers=2)


MODELS = {
    "linear": (lambda: torch.nn.Linear(4, 2), (3, 4)),
    "convolutional": (Convolutional, (2, 3, 8, 8)),
    "transformer": (
        lambda: torch.nn.TransformerEncoder(
            torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
            2,
            enable_nested_tensor=False,
        ),
        (2, 5, 8),
    ),
    "rnn": (recurrent(torch.nn.RNN), (5, 2, 4)),
    "lstm": (recurrent(torch.nn.LSTM), (5, 2, 4)),
    "gru": (recurrent(torch.nn.GRU), (5, 2, 4)),
}


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_what_it_gives_on_the_cpu(device, name, mode):
    """An unchanged module runs on the device, in every gradient mode, with the CPU's results."""
    make, shape = MODELS[name]
    model = make().eval()
    x = torch.randn(shape)
    with mode():
        expected = model(x)
        actual = model.to("cuda")(x.to("cuda"))
    if isinstance(expected, tuple):
        expected, actual = expected[0], actual[0]
    assert torch.device("cuda", 0) == actual.device
    torch.testing.assert_close(actual.detach().cpu(), expected.detach())


@pytest.mark.parametrize("to", [lambda m: m.to("cuda"), lambda m: m.cuda(), lambda m: m.to(0)])
def test_a_moved_model_keeps_its_parameters(device, to):
    """Parameters stay the same objects, tied and weakly referenced ones too, there and back."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model.register_buffer("scale", torch.ones(4))
    weight = weakref.ref(model[0].weight)
    before = list(map(id, model.parameters()))
    to(model)
    assert before == list(map(id, model.parameters()))
    assert weight() is model[1].weight
    assert isinstance(weight(), torch.nn.Parameter)
    assert {torch.device("cuda", 0)} == {t.device for t in (*model.parameters(), model.scale)}
    assert 4 * 512 == torch.cuda.memory_allocated()
    model.to("cpu")
    assert before == list(map(id, model.parameters()))
    assert {torch.device("cpu")} == {t.device for t in (*model.parameters(), model.scale)}
    assert torch.nn.Parameter is type(weight())
    assert 0 == torch.cuda.memory_allocated()


def test_a_copied_model_has_memory_of_its_own(device):
    """`deepcopy` copies parameters to new device memory; a parameter stays one."""
    model = torch.nn.Linear(4, 2).cuda()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.weight.zero_()
    assert 4 * 512 == torch.cuda.memory_allocated()
    assert isinstance(other.weight, torch.nn.Parameter)
    assert (True, True) == (other.weight.requires_grad, bool(model.weight.abs().sum() > 0))


def test_half_precision_and_autocast(device):
    """Softmax of half in float, and autocast for CUDA, which have no counterpart on the CPU."""
    half = torch.ones(2, 4, dtype=torch.float16, device="cuda")
    assert torch.float32 is half.softmax(-1, dtype=torch.float32).dtype
    with torch.autocast("cuda", dtype=torch.float16), torch.no_grad():
        assert torch.float16 is torch.nn.Linear(4, 4).cuda()(half.float()).dtype


def test_all_threads_may_use_the_device(device):
    """Tensors are made, moved and computed with on any thread."""
    results = []

    def run():
        x = torch.ones(2).to("cuda") + torch.ones(2, device="cuda")
        results.append(x.tolist())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [[2.0, 2.0]] == results


def test_devices_do_not_mix(device):
    """Tensors of different devices are refused, but for scalars and indices from the CPU."""
    x = torch.arange(4, device="cuda")
    message = "Expected all tensors to be on the same device, but found at least two devices"
    with pytest.raises(RuntimeError, match=f"{message}, cuda:0 and cpu!"):
        x + torch.arange(4)
    with pytest.raises(RuntimeError, match=f"{message}, cuda:0 and cuda:1!"):
        x + x.to("cuda:1")
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        x.numpy()
    assert [1, 2] == x[torch.tensor([1, 2])].tolist()


def test_kernels_take_their_time(device):
    """Each kernel takes `op_time_s`; views and empty tensors launch none."""
    device.op_time_s = 1e-3
    x = torch.empty(4, 4, device="cuda")
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    torch.empty_like(x).resize_(2)
    x.view(16)[3:].unsqueeze(0).expand(2, -1).detach()
    x.t().zero_()
    torch.nn.functional.linear(x, x, x[0])
    end.record()
    device.complete()
    assert 2.0 == begin.elapsed_time(end)


def test_the_time_of_a_kernel_may_depend_on_it(device):
    """`op_time_s` may be a function of the operator and its arguments."""
    aten, seen = torch.ops.aten, []

    def op_time_s(func, args):
        seen.append((func, args[0].shape))
        return 1.0 if func is aten.mm.default else 0.0

    x = torch.ones(2, 3, device="cuda")
    device.op_time_s = op_time_s
    x.mm(x.t()).relu()
    start_ns = device.clock.now_ns()
    torch.cuda.synchronize()
    assert 1_000_000_000 == device.clock.now_ns() - start_ns
    assert [(aten.mm.default, (2, 3)), (aten.relu.default, (2, 2))] == seen


@pytest.mark.parametrize(
    ("read", "call"),
    [
        (torch.Tensor.item, "memcpy DtoH"),
        (int, "memcpy DtoH"),
        (float, "memcpy DtoH"),
        (bool, "memcpy DtoH"),
        (lambda x: x.tolist(), "memcpy DtoH"),
        (torch.Tensor.cpu, "memcpy DtoH"),
        (torch.Tensor.nonzero, "aten.nonzero.default"),
        (lambda x: x[x > 0], "aten.index.Tensor"),
        (lambda x: x.equal(x), "aten.equal.default"),
        (torch.unique, "aten._unique2.default"),
    ],
)
def test_reading_values_waits_for_the_device(device, read, call):
    """Whoever needs a value or a number of values stalls until the stream is done."""
    x = torch.ones(1, device="cuda")
    device.calls.clear()
    device.launch(0.5)
    read(x)
    assert [(call, "MainThread", 0.5)] == [c[:3] for c in device.calls]


def test_what_does_not_wait(device):
    """Computing, indexing with indices, and asking for shapes never synchronize."""
    x = torch.ones(4, device="cuda")
    indices = torch.arange(2, device="cuda")
    device.calls.clear()
    device.launch(0.5)
    y = torch.cat([x * 2, x])[indices].sum()
    assert (torch.Size([]), 4, []) == (y.shape, x.numel(), device.calls)


def test_copies_from_the_host(device):
    """A copy from pageable memory waits; from pinned memory it does not when asked not to."""
    device.h2d_bytes_per_s, device.h2d_pageable_bytes_per_s = 4 * MIB, 2 * MIB
    pageable = torch.ones(MIB, dtype=torch.uint8)
    pinned = pageable.pin_memory()
    assert (False, True, False) == (
        pageable.is_pinned(),
        pinned.is_pinned(),
        pinned.cuda().is_pinned(),
    )
    device.calls.clear()
    x = pageable.to("cuda")
    x.copy_(pageable, non_blocking=True)
    x.copy_(pinned)
    device.complete()
    x.copy_(pinned, non_blocking=True)
    assert [
        ("memcpy HtoD", MIB, True, 0.5),
        ("memcpy HtoD", MIB, True, 0.5),
        ("memcpy HtoD", MIB, False, 0.25),
        ("memcpy HtoD", MIB, False, None),
    ] == copies(device)
    assert not torch.cuda.current_stream().query()


def test_copies_to_the_host(device):
    """`.cpu()` waits; a copy that need not block goes to pinned memory and does not."""
    device.d2h_bytes_per_s, device.d2h_pageable_bytes_per_s = 4 * MIB, 2 * MIB
    x = torch.ones(MIB, dtype=torch.uint8, device="cuda")
    device.calls.clear()
    x.cpu()
    host = x.to("cpu", non_blocking=True)
    assert host.is_pinned()
    device.complete()
    torch.empty(MIB, dtype=torch.uint8).copy_(x, non_blocking=True)
    torch.empty(MIB).copy_(x)  # converted on the device, then copied
    assert [
        ("memcpy DtoH", MIB, True, 0.5),
        ("memcpy DtoH", MIB, False, None),
        ("memcpy DtoH", MIB, True, 0.5),
        ("memcpy DtoH", 4 * MIB, True, 2.0),
    ] == copies(device)


def test_copies_between_devices(device):
    """They go on the source's stream, and the target's waits for them. Within one it is a kernel."""
    device.d2d_bytes_per_s = MIB
    device.op_time_s = 0.125
    x = torch.empty(MIB, dtype=torch.uint8, device="cuda:0")
    device.calls.clear()
    y = x.to("cuda:1")
    assert (torch.device("cuda", 1), MIB) == (y.device, torch.cuda.memory_allocated(1))
    x.copy_(x.clone())
    assert [("memcpy DtoD", MIB, False, None)] == copies(device)
    start_ns = device.clock.now_ns()
    torch.cuda.synchronize(1)
    assert 1.0 == (device.clock.now_ns() - start_ns) / 1e9
    torch.cuda.synchronize(0)
    assert 1.25 == (device.clock.now_ns() - start_ns) / 1e9


def test_storages_tell_views_apart(device):
    """Address and size of the storage are those of the values: views share them."""
    x = torch.arange(6, device="cuda")
    storage, view = x.untyped_storage(), x[2:].untyped_storage()
    assert (48, storage.data_ptr()) == (storage.nbytes(), view.data_ptr())
    assert x.data_ptr() + 16 == x[2:].data_ptr()
    assert x.clone().data_ptr() != x.data_ptr()


def test_a_tensor_reads_well(device):
    """Its text is that of a CUDA tensor, and reading it does not synchronize."""
    x = torch.arange(3, device="cuda")
    device.calls.clear()
    assert ("tensor([0, 1, 2], device='cuda:0')", []) == (repr(x), device.calls)


def test_patches_of_tensor_methods_are_honoured(device, monkeypatch):
    """Who replaces a method of `torch.Tensor`, as warpspan does, sees the device's tensors too."""
    seen = []
    for name in ("item", "tolist", "cpu", "to", "nonzero", "__bool__"):
        original = getattr(torch.Tensor, name)

        def replacement(self, *args, _name=name, _original=original, **kwargs):
            seen.append((_name, self.device.type))
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, replacement)
    x = torch.ones(1).to("cuda")
    assert not torch.overrides.has_torch_function((x,))
    assert (1.0, [1.0], True) == (x.item(), x.tolist(), bool(x))
    x.cpu()
    x.nonzero()
    assert [
        ("to", "cpu"),
        ("item", "cuda"),
        ("tolist", "cuda"),
        ("__bool__", "cuda"),
        ("cpu", "cuda"),
        ("nonzero", "cuda"),
    ] == seen


def test_rates_are_infinite_by_default(device):
    """Nothing takes time until it is told to."""
    assert {math.inf} == {v for k, v in vars(device).items() if k.endswith("bytes_per_s")}
    start_ns = device.clock.now_ns()
    torch.ones(1000).cuda().mul(2).cpu()
    assert start_ns == device.clock.now_ns()
