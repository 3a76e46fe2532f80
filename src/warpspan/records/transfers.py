"""What crossed the bus."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from warpspan.records.attr import attr, group
from warpspan.records.enums import StrEnum
from warpspan.signals import names


class Direction(StrEnum):
    """The way of a copy: between host and device, or between two devices."""

    H2D = "h2d"
    D2H = "d2h"
    D2D = "d2d"


class MemoryKind(StrEnum):
    """The memory on the other side of a copy."""

    PAGEABLE = "pageable"
    PINNED = "pinned"
    DEVICE = "device"


class Transfer(NamedTuple):
    """The copies of one direction.

    Args:
        total: how many.
        nbytes: what crossed the bus.
        pageable_bytes: of it, to or from host memory that is not pinned.
        weight_bytes: of it, parameters of models.
        time_s: device time of those of at least 256 KiB, None where one was not timed.
        bytes_per_s: their bytes over their time.
        device_share: that time over the device time of the inference.
    """

    total: Annotated[int | None, attr("count")] = None
    nbytes: Annotated[int | None, attr("size")] = None
    pageable_bytes: Annotated[int | None, attr("pageable.size")] = None
    weight_bytes: Annotated[int | None, attr("weights.size")] = None
    time_s: Annotated[float | None, attr("time")] = None
    bytes_per_s: Annotated[float | None, attr("bandwidth")] = None
    device_share: Annotated[float | None, attr("device.share")] = None


class Transfers(NamedTuple):
    """The copies by direction, and what was pinned for them."""

    h2d: Annotated[Transfer | None, group(names.PYTORCH_TRANSFER_H2D)] = None
    d2h: Annotated[Transfer | None, group(names.PYTORCH_TRANSFER_D2H, detail=True)] = None
    d2d: Annotated[Transfer | None, group(names.PYTORCH_TRANSFER_D2D, detail=True)] = None
    pin_count: Annotated[int | None, attr(names.PYTORCH_TRANSFER_PIN_COUNT, detail=True)] = None
    pin_bytes: Annotated[int | None, attr(names.PYTORCH_TRANSFER_PIN_SIZE, detail=True)] = None
    pin_time_s: Annotated[float | None, attr(names.PYTORCH_TRANSFER_PIN_TIME, detail=True)] = None

    def by_direction(self) -> dict[Direction, Transfer]:
        """The directions in which anything was copied."""
        return {
            direction: transfer
            for direction, transfer in zip(Direction, self[:3], strict=True)
            if transfer is not None
        }
