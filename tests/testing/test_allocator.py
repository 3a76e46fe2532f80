"""Device memory, counted as the caching allocator counts it."""

import pytest
import torch

from warpspan.testing import ScriptedDevice

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def counters(name, pool="all"):
    return torch._C._cuda_memoryStats(0)[name][pool]


@pytest.fixture
def device(device):
    torch.cuda.init()
    return device


def test_blocks_are_rounded_to_512_bytes(device):
    """A tensor takes its bytes rounded up; what was asked for is counted too."""
    tensor = torch.empty(3, device="cuda")
    large = torch.empty(MIB + 1, dtype=torch.uint8, device="cuda")
    expected = {
        "allocated_bytes": 512 + MIB + 512,
        "active_bytes": 512 + MIB + 512,
        "requested_bytes": 12 + MIB + 1,
        "reserved_bytes": 22 * MIB,
        "allocation": 2,
        "active": 2,
        "segment": 2,
        "inactive_split": 0,
        "inactive_split_bytes": 0,
    }
    assert expected == {name: counters(name)["current"] for name in expected}
    assert (512, MIB + 512) == (
        counters("allocated_bytes", "small_pool")["current"],
        counters("allocated_bytes", "large_pool")["current"],
    )
    del tensor, large


def test_memory_is_free_when_the_last_view_is_gone(device):
    """Views share the memory of their base, which lives as long as the last of them."""
    base = torch.zeros(1024, device="cuda")
    view = base.view(32, 32)[1:]
    row = view[0].detach()
    assert 4096 == torch.cuda.memory_allocated()
    del base, view
    assert 4096 == torch.cuda.memory_allocated()
    del row
    assert 0 == torch.cuda.memory_allocated()
    assert {"current": 0, "peak": 4096, "allocated": 4096, "freed": 4096} == counters(
        "allocated_bytes"
    )


def test_peak_follows_what_lives_at_once(device):
    """The peak of a computation is that of its live tensors, and restarts when reset."""
    a = torch.ones(1 << 20, device="cuda")
    b = (a * 2) + 1
    assert (8 * MIB, 12 * MIB) == (
        torch.cuda.memory_allocated(),
        torch.cuda.max_memory_allocated(),
    )
    del b
    torch.cuda.reset_peak_memory_stats()
    assert 4 * MIB == torch.cuda.max_memory_allocated()
    torch.cuda.reset_accumulated_memory_stats()
    assert {"current": 4 * MIB, "peak": 4 * MIB, "allocated": 0, "freed": 0} == counters(
        "allocated_bytes"
    )


def test_a_resized_tensor_takes_its_new_size(device):
    """`resize_` takes a new block, then frees the old one."""
    tensor = torch.empty(128, device="cuda")
    tensor.resize_(1024)
    assert torch.Size([1024]) == tensor.shape
    assert (4096, 4096 + 512) == (torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated())


def test_manual_blocks(device):
    """`allocate` takes memory without a tensor, until `free`; a second `free` does nothing."""
    handle = device.allocate(3 * GIB)
    assert 3 * GIB == torch.cuda.memory_allocated()
    device.free(handle)
    device.free(handle)
    assert (0, 3 * GIB) == (torch.cuda.memory_allocated(), torch.cuda.memory_reserved())
    torch.cuda.empty_cache()
    assert 0 == torch.cuda.memory_reserved()
    assert (85_520_809_984, 85_520_809_984) == torch.cuda.mem_get_info()


def test_torchs_own_readers_work(device):
    """The flat counters, the summary and torch.accelerator all rest on the script."""
    tensor = torch.empty(1000, device="cuda")
    flat = torch.cuda.memory_stats()
    assert (4096, 1, 0) == (
        flat["allocated_bytes.all.current"],
        flat["allocation.small_pool.allocated"],
        flat["num_ooms"],
    )
    assert "4096 B" in torch.cuda.memory_summary()
    memory = getattr(getattr(torch, "accelerator", None), "memory", None)
    if memory is not None:
        assert flat["allocated_bytes.all.peak"] == memory.max_memory_allocated()
        memory.reset_peak_memory_stats()
        assert (4096, 2 * MIB) == (memory.memory_allocated(), memory.max_memory_reserved())
    del tensor


def test_out_of_memory():
    """What does not fit raises torch's error and text, before the host is asked for memory."""
    with ScriptedDevice(total_memory=80 * GIB) as device:
        held = device.allocate(70 * GIB)
        with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
            torch.zeros(20 * GIB, dtype=torch.uint8, device="cuda")
        message = str(caught.value)
        assert message.startswith(
            "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of "
            "80.00 GiB of which 10.00 GiB is free. Including non-PyTorch memory, this process has "
            "70.00 GiB memory in use. Of the allocated memory 70.00 GiB is allocated by PyTorch, "
            "and 0 bytes is reserved by PyTorch but unallocated. If reserved but unallocated"
        )
        stats = torch.cuda.memory_stats()
        assert (1, 1) == (stats["num_alloc_retries"], stats["num_ooms"])
        assert 70 * GIB == torch.cuda.memory_allocated()
        device.free(held)


def test_a_retry_frees_the_cache(device):
    """What fits only after cached segments are freed is a retry, not an error."""
    device.free(device.allocate(50 * GIB))
    device.allocate(40 * GIB + 1)
    assert 50 * GIB == torch.cuda.memory_reserved()
    device.allocate(39 * GIB)
    stats = torch.cuda.memory_stats()
    assert (1, 0) == (stats["num_alloc_retries"], stats["num_ooms"])
    assert 79 * GIB + 2 * MIB == torch.cuda.memory_reserved()


def test_a_scripted_failure(device):
    """The n-th allocation from now fails, the one after it works again."""
    device.fail_allocation(at=2)
    first = torch.empty(1, device="cuda")
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"Tried to allocate 2\.00 MiB\. GPU 0"):
        torch.empty(1, device="cuda")
    second = torch.empty(1, device="cuda")
    stats = torch.cuda.memory_stats()
    assert (1, 1, 1024) == (
        stats["num_alloc_retries"],
        stats["num_ooms"],
        stats["allocated_bytes.all.current"],
    )
    del first, second


def test_an_operator_that_runs_out_of_memory(device):
    """The result of an operator counts too; what it was to be computed from stays."""
    a = torch.ones(1024, device="cuda")
    device.fail_allocation()
    with pytest.raises(torch.cuda.OutOfMemoryError):
        a + 1
    assert 4096 == torch.cuda.memory_allocated()


def test_each_device_has_its_memory():
    """Counters of one device do not change those of another; there is no third."""
    with ScriptedDevice(count=2):
        tensor = torch.empty(1, device="cuda:1")
        assert (0, 512) == (torch.cuda.memory_allocated(0), torch.cuda.memory_allocated(1))
        with pytest.raises(RuntimeError, match="invalid device ordinal"):
            torch.empty(1, device="cuda:2")
        with pytest.raises(RuntimeError, match="Invalid device argument 2: did you call init"):
            torch._C._cuda_memoryStats(2)
        del tensor


def test_counters_need_an_initialised_device():
    """Before CUDA is initialised the raw counters are refused and torch's reader is empty."""
    with ScriptedDevice():
        with pytest.raises(RuntimeError, match="did you call init"):
            torch._C._cuda_memoryStats(0)
        assert ({}, False) == (
            torch.cuda.memory_stats_as_nested_dict(),
            torch.cuda.is_initialized(),
        )
