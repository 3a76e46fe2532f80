"""One finished inference, as a record and as the attributes of its span."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from warpspan.records.attr import AttributeValue, Codec, attr, group
from warpspan.records.enums import StrEnum
from warpspan.records.generation import Loop
from warpspan.records.kv_cache import Cache
from warpspan.records.memory import Memory
from warpspan.records.model import Device, Input, Model
from warpspan.records.profile import Profile
from warpspan.records.syncs import Syncs
from warpspan.records.timing import Steps, Timing
from warpspan.records.transfers import Transfers
from warpspan.records.usage import Usage
from warpspan.signals import names

#: Attributes that a span has of us at most. SDKs keep 128 and drop the oldest, which are those
#: that name the operation and the model; the rest is for those of the user.
SPAN_ATTRIBUTE_LIMIT = 112
#: The event that takes the details of a span that would have more.
DETAILS_EVENT = "pytorch.details"
#: The event that has the steps of a loop.
STEPS_EVENT = "pytorch.steps"
#: The event that takes the kernels or operators of a profiled inference.
PROFILE_EVENT = "pytorch.profile"


class DropReason(StrEnum):
    """Why an inference was not recorded, or not whole."""

    QUEUE_FULL = "queue_full"
    TIMEOUT = "timeout"
    KV_CACHE_FORGOTTEN = "kv_cache_forgotten"


class Inference(NamedTuple):
    """One finished inference.

    Args:
        operation: what ran, `forward` for a module call.
        start_ns: Unix time of its start in nanoseconds.
        duration_s: seconds on the host.
        error_type: class of the exception that left it, or None.
        trace_id: hex id of its trace, empty where no span was recorded.
        span_id: hex id of its span, likewise.
        parent_span_id: hex id of the span that was current, likewise.
        process: identity of the process that ran it where it was read back, empty in that process.
    """

    operation: Annotated[str, attr(names.PYTORCH_OPERATION_NAME, start=True)]
    start_ns: int
    duration_s: float
    device: Annotated[Device, group(start=True)]
    model: Model = Model()
    input: Input = Input()
    timing: Timing = Timing()
    memory: Memory | None = None
    steps: Steps | None = None
    usage: Usage | None = None
    cache: Cache | None = None
    loop: Loop | None = None
    syncs: Syncs | None = None
    transfers: Transfers | None = None
    profile: Profile | None = None
    error_type: Annotated[str | None, attr(names.ERROR_TYPE)] = None
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    process: str = ""

    @property
    def out_of_memory(self) -> bool:
        """Whether it ran out of memory: on a GPU by the class of the error, on a CPU by its text."""
        return (self.error_type or "").endswith("OutOfMemoryError") or (
            self.memory is not None and self.memory.oom_requested_bytes is not None
        )

    @property
    def end_ns(self) -> int:
        """Unix time of its end in nanoseconds."""
        return self.start_ns + round(self.duration_s * 1e9)

    def start_attributes(self) -> dict[str, AttributeValue]:
        """What is known when it begins: also the attributes of its metrics."""
        return start_attributes(self.operation, self.model.name, self.device)

    def end_attributes(self) -> dict[str, AttributeValue]:
        """All that was measured, absent otherwise."""
        return codec.encode_end(self)

    @classmethod
    def from_attributes(
        cls,
        attributes: Mapping[str, Any],
        *,
        start_ns: int,
        duration_s: float,
        trace_id: str = "",
        span_id: str = "",
        parent_span_id: str = "",
        process: str = "",
    ) -> Inference:
        """The record behind the attributes of an inference span, those of its details included.

        Raises:
            KeyError: the attributes are not those of an inference.
        """
        beside = {
            "start_ns": start_ns,
            "duration_s": duration_s,
            "trace_id": trace_id,
            "span_id": span_id,
            "parent_span_id": parent_span_id,
            "process": process,
        }
        return codec.decode(attributes, beside)


codec = Codec(Inference)
_ROWS = ("profile.kernels[]", "profile.operators[]")
_device_codec = Codec(Device)
_DETAILS = frozenset(attribute.name for attribute in codec.attributes if attribute.detail)
_PROFILE_ROWS = frozenset(
    attribute.name for attribute in codec.attributes if attribute.path.startswith(_ROWS)
)
_START_ONLY = sum(attribute.start for attribute in codec.attributes)


def start_attributes(
    operation: str, model_name: str | None, device: Device
) -> dict[str, AttributeValue]:
    """The attributes that a span has from its start, which samplers see."""
    attributes: dict[str, AttributeValue] = {names.PYTORCH_OPERATION_NAME: operation}
    if model_name is not None:
        attributes[names.PYTORCH_MODEL_NAME] = model_name
    attributes.update(_device_codec.encode(device))
    return attributes


def device_attributes(device: Device) -> dict[str, AttributeValue]:
    """The attributes that name a device."""
    return _device_codec.encode(device)


def take_out_details(attributes: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Take the details out of the end attributes of a span that would have too many, else none.

    All of them or none, so that it is known where to look for one.
    """
    if len(attributes) + _START_ONLY <= SPAN_ATTRIBUTE_LIMIT:
        return {}
    return {name: attributes.pop(name) for name in list(attributes) if name in _DETAILS}


def take_out_profile(attributes: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Take the kernels or operators of a profiled inference out of its end attributes."""
    return {name: attributes.pop(name) for name in list(attributes) if name in _PROFILE_ROWS}
