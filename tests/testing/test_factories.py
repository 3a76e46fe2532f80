"""Every way by which a tensor comes to a scripted device."""

import pytest
import torch

pytestmark = pytest.mark.scripted_device(count=2)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    "make",
    [
        lambda device: torch.tensor([[1, 2], [3, 4]], device=device),
        lambda device: torch.as_tensor([[1, 2], [3, 4]], device=device),
        lambda device: torch.tensor([1.0, 2.0], device=device, requires_grad=True).detach(),
        lambda device: torch.zeros(2, 3, device=device),
        lambda device: torch.full((2,), 7, dtype=torch.int32, device=device),
        lambda device: torch.arange(5, device=device),
        lambda device: torch.linspace(0, 1, 4, device=device),
        lambda device: torch.eye(3, device=device),
        lambda device: torch.tril_indices(3, 3, device=device),
        lambda device: torch.triu_indices(3, 3, device=device),
        lambda device: torch.hann_window(6, device=device),
        lambda device: torch.ones(2).new_zeros(3, device=device),
        lambda device: torch.ones_like(torch.zeros(2, 2), device=device),
        lambda device: torch.empty(0, device=device).resize_(2).fill_(3),
        lambda device: torch.ones(2, 3, device=device).t_(),
        lambda device: (
            torch.empty(2, 2, 3, 3, device=device)
            .fill_(1)
            .contiguous(memory_format=torch.channels_last)
        ),
        lambda device: torch.ones(2, 3, device=device).softmax(-1, dtype=torch.float64),
        lambda device: torch.arange(9, device=device)[torch.tensor([1, 2])],
        lambda device: torch.arange(9, device=device).view(3, 3)[1:, ::2],
        lambda device: torch.arange(9, device=device) + torch.tensor(1),
        lambda device: torch.randn(3, device=device, generator=torch.Generator().manual_seed(3)),
    ],
)
def test_every_way_to_make_a_tensor(device, make):
    """Values, shape, strides and type are those of the same call for the CPU."""
    expected, actual = make("cpu"), make("cuda")
    assert torch.device("cuda", 0) == actual.device
    assert (expected.shape, expected.stride(), expected.dtype) == (
        actual.shape,
        actual.stride(),
        actual.dtype,
    )
    assert torch.equal(expected, actual.cpu())


def test_the_default_device(device):
    """A default device applies to what is made of Python values too."""
    with torch.device("cuda:1"):
        made = torch.tensor([1.0]), torch.zeros(1), torch.as_tensor([2])
    assert [torch.device("cuda", 1)] * 3 == [tensor.device for tensor in made]


def test_seeds(device):
    """`torch.manual_seed` makes what is drawn on the device the same again."""
    assert torch.equal(torch.get_rng_state(), torch.cuda.get_rng_state())  # its first use
    torch.manual_seed(7)
    first = torch.rand(3, device="cuda").tolist()
    with torch.random.fork_rng(devices=[0]):
        torch.cuda.manual_seed_all(7)
        assert first == torch.rand(3, device="cuda").tolist()


def test_a_tensor_that_is_there_is_not_copied(device):
    """`.to` its own device gives the same tensor, as on a real one."""
    x = torch.ones(2, device="cuda")
    device.calls.clear()
    assert x.to("cuda") is x
    assert x.cuda() is x
    assert [] == device.calls


def test_data_moves_with_its_tensor(device):
    """Assigning `.data` moves a parameter to the device and back, as offloading libraries do."""
    parameter = torch.nn.Parameter(torch.ones(4))
    host = parameter.data
    parameter.data = host.to("cuda")
    assert (torch.device("cuda", 0), 512) == (parameter.device, torch.cuda.memory_allocated())
    parameter.data = parameter.data * 2
    assert [2.0] * 4 == parameter.tolist()
    parameter.data = host
    assert (torch.device("cpu"), 0) == (parameter.device, torch.cuda.memory_allocated())
    assert (True, [1.0] * 4) == (parameter.requires_grad, parameter.tolist())


def test_a_pinned_loader(device):
    """A DataLoader with `pin_memory` gives pinned batches."""
    data = torch.utils.data.TensorDataset(torch.ones(4, 2))
    loader = torch.utils.data.DataLoader(data, batch_size=2, pin_memory=True)
    assert [True, True] == [batch.is_pinned() for [batch] in loader]
