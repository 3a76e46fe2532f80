"""Which device of the driver is the one that torch counts as `n`: by UUID, under every variable.

The driver's order is not CUDA's: `CUDA_VISIBLE_DEVICES` picks and reorders, `CUDA_DEVICE_ORDER`
sorts, and MIG puts instances in the place of devices. Pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from warpspan.device.driver import Gpu

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"


def find(
    gpus: Sequence[Gpu], ordinal: int, torch_id: str | None, environ: Mapping[str, str]
) -> str | None:
    """UUID of the device or MIG instance that torch counts as `ordinal`; None where unknown.

    Args:
        gpus: the devices that the driver shows.
        ordinal: index as torch counts.
        torch_id: `GPU-` and the UUID that torch gives, or None (before torch 2.5). In a MIG
            instance it is the instance's or the whole device's, as the driver's version has it.
        environ: the environment of this process.
    """
    seen = visible(gpus, environ.get(VISIBLE), environ.get(ORDER))
    by_order = seen[ordinal] if ordinal < len(seen) else None
    if torch_id is None:
        return by_order
    bare = torch_id.partition("-")[2]
    for gpu in gpus:
        instances = [instance.uuid for instance in gpu.instances]
        if f"MIG-{bare}" in instances:
            return f"MIG-{bare}"
        if gpu.uuid == torch_id:
            if not gpu.mig:
                return gpu.uuid
            if by_order in instances:
                return by_order
            return instances[0] if len(instances) == 1 else None
    return None


def visible(
    gpus: Sequence[Gpu], chosen: str | None = None, order: str | None = None
) -> list[str | None]:
    """UUIDs of the devices that CUDA shows, in its order; None where the order can't be known.

    Args:
        gpus: the devices that the driver shows.
        chosen: value of CUDA_VISIBLE_DEVICES, None where it is not set.
        order: value of CUDA_DEVICE_ORDER. By default CUDA counts the fastest first, which
            the driver does not tell: between devices of one model that is by PCI address.
    """
    ordered = sorted(gpus, key=lambda gpu: gpu.bus_id)
    known = order == "PCI_BUS_ID" or len({gpu.name for gpu in gpus}) <= 1
    counted = [_first(gpu) for gpu in ordered]
    if chosen is None:
        return _enumerated(counted if known else [None] * len(counted))
    found: list[str | None] = []
    for token in chosen.split(","):
        uuid: str | None
        if token.strip().isdecimal():
            index = int(token)
            if index >= len(counted):
                break  # and what follows an entry that is not valid does not count
            uuid = counted[index] if known else None
        else:
            uuid = _named(gpus, token.strip())
            if uuid is None:
                break
        if uuid is not None and uuid in found:
            return []  # CUDA refuses a list that names a device twice
        found.append(uuid)
    return _enumerated(found)


def _first(gpu: Gpu) -> str | None:
    """What CUDA counts for a device: under MIG its first instance."""
    if not gpu.mig:
        return gpu.uuid
    return gpu.instances[0].uuid if gpu.instances else None


def _enumerated(found: list[str | None]) -> list[str | None]:
    """CUDA shows one MIG instance, and no other device beside it."""
    instance = next((uuid for uuid in found if uuid and uuid.startswith("MIG-")), None)
    return found if instance is None else [instance]


def _named(gpus: Sequence[Gpu], name: str) -> str | None:
    """The device of a name: a UUID or the start of only one, or `MIG-GPU-<uuid>/<gi>/<ci>`."""
    if not name.startswith(("GPU-", "MIG-")):
        return None
    if name.startswith("MIG-GPU-"):
        whole, _, ids = name.removeprefix("MIG-").partition("/")
        matching = [
            instance.uuid
            for gpu in gpus
            if gpu.uuid == whole
            for instance in gpu.instances
            if f"{instance.gpu_instance}/{instance.compute_instance}" == ids
        ]
    else:
        every = [gpu.uuid for gpu in gpus]
        every += [instance.uuid for gpu in gpus for instance in gpu.instances]
        matching = [uuid for uuid in every if uuid.startswith(name)]
    if len(matching) != 1:
        return None
    whole_gpu = next((gpu for gpu in gpus if gpu.uuid == matching[0]), None)
    return matching[0] if whole_gpu is None else _first(whole_gpu)
