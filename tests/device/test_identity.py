"""torch's index finds the driver's device, whatever the variables say."""

import itertools

import pytest

from warpspan.device.driver import Gpu, Instance
from warpspan.device.identity import find, visible

EIGHT = [
    Gpu(f"GPU-{letter}{letter}{letter}{letter}0000", f"00000000:{bus:02X}:00.0", "H100")
    for letter, bus in zip(
        "abcdefgh", (0x9B, 0x1B, 0x43, 0x52, 0x61, 0x9C, 0xC3, 0xD1), strict=True
    )
]
BY_BUS = sorted(EIGHT, key=lambda gpu: gpu.bus_id)
IDS = [gpu.uuid for gpu in BY_BUS]
MIG = Gpu(
    "GPU-aaaa",
    "00000000:01:00.0",
    "H100",
    mig=True,
    instances=(Instance("MIG-1111", 1, 0, "1g.10gb"), Instance("MIG-2222", 2, 0, "3g.40gb")),
)
WHOLE = Gpu("GPU-bbbb", "00000000:02:00.0", "H100")


@pytest.mark.parametrize("order", [None, "PCI_BUS_ID", "FASTEST_FIRST"])
@pytest.mark.parametrize("chosen", list(itertools.permutations(range(8), 2)))
def test_every_pair_of_eight_by_index_and_by_uuid(chosen, order):
    """Index and UUID name the same device, in the order in which they are written."""
    expected = [IDS[index] for index in chosen]
    by_index = ",".join(map(str, chosen))
    by_uuid = ",".join(expected)
    mixed = f"{chosen[0]},{IDS[chosen[1]][:8]}"
    for written in (by_index, by_uuid, mixed):
        environ = {"CUDA_VISIBLE_DEVICES": written}
        if order is not None:
            environ["CUDA_DEVICE_ORDER"] = order
        for ordinal, uuid in enumerate(expected):
            assert uuid == find(EIGHT, ordinal, None, environ)
            assert uuid == find(EIGHT, ordinal, uuid, environ)
        assert find(EIGHT, 2, None, environ) is None


@pytest.mark.parametrize("driver_order", [EIGHT, EIGHT[::-1], BY_BUS])
def test_the_drivers_order_does_not_matter(driver_order):
    """NVML's index is not CUDA's: without variables it is the PCI address that counts."""
    assert IDS == visible(driver_order)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("", []),
        ("-1", []),
        ("none", []),
        ("NoDevFiles", []),
        ("2,-1,3", [2]),
        ("0,8,1", [0]),
        ("1,GPU-zzzz,2", [1]),
        ("GPU-", []),
        ("3,3", []),
        (f"0,{IDS[0]}", []),
        (" 1 , 0 ", [1, 0]),
        ("7,6,5,4,3,2,1,0", [7, 6, 5, 4, 3, 2, 1, 0]),
    ],
)
def test_lists_as_cuda_reads_them(chosen, expected):
    """An invalid entry ends the list, a double one empties it."""
    assert [IDS[index] for index in expected] == visible(EIGHT, chosen)


def test_several_models_have_no_known_order_but_by_address():
    """CUDA counts the fastest first, and the driver does not say which that is."""
    mixed = [WHOLE, Gpu("GPU-cccc", "00000000:01:00.0", "A100")]
    assert [None, None] == visible(mixed)
    assert [None] == visible(mixed, "1")
    assert ["GPU-cccc", "GPU-bbbb"] == visible(mixed, order="PCI_BUS_ID")
    assert ["GPU-bbbb"] == visible(mixed, "GPU-bbbb")
    assert "GPU-cccc" == find(mixed, 0, "GPU-cccc", {})


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, ["MIG-1111"]),
        ("0", ["MIG-1111"]),
        ("1", ["GPU-bbbb"]),
        ("1,0", ["MIG-1111"]),
        ("MIG-2222", ["MIG-2222"]),
        ("MIG-2222,MIG-1111", ["MIG-2222"]),
        ("MIG-GPU-aaaa/2/0", ["MIG-2222"]),
        ("MIG-GPU-aaaa/7/0", []),
        ("GPU-aaaa", ["MIG-1111"]),
        ("MIG-", []),
    ],
)
def test_mig_instances(chosen, expected):
    """CUDA shows one instance, and nothing beside it."""
    assert expected == visible([MIG, WHOLE], chosen)


@pytest.mark.parametrize(
    ("torch_id", "chosen", "expected"),
    [
        ("GPU-2222", None, "MIG-2222"),  # torch gives the instance's UUID
        ("GPU-aaaa", "MIG-2222", "MIG-2222"),  # or the device's
        ("GPU-aaaa", "7", None),
        ("GPU-bbbb", "0", "GPU-bbbb"),
        ("GPU-ffff", None, None),
    ],
)
def test_the_uuid_of_torch_goes_first(torch_id, chosen, expected):
    """Whatever the variables say now: they may have changed since CUDA read them."""
    environ = {} if chosen is None else {"CUDA_VISIBLE_DEVICES": chosen}
    assert expected == find([MIG, WHOLE], 0, torch_id, environ)


def test_a_device_without_an_instance():
    """MIG is on and nothing was made: CUDA has nothing to show."""
    assert [None] == visible([MIG._replace(instances=())])
