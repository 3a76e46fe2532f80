"""What runs: the device, the model and its input."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from warpspan.records.attr import attr
from warpspan.signals import names


class Device(NamedTuple):
    """The device of an inference; `ordinal` is its index as torch counts."""

    type: Annotated[str, attr(names.PYTORCH_DEVICE_TYPE)]
    ordinal: Annotated[int | None, attr(names.PYTORCH_DEVICE_INDEX)] = None
    id: Annotated[str | None, attr(names.HW_ID)] = None


class Model(NamedTuple):
    """What is known of a model. `parameter_bytes` is the size as stored."""

    name: Annotated[str | None, attr(names.PYTORCH_MODEL_NAME)] = None
    parameter_count: Annotated[int | None, attr(names.PYTORCH_MODEL_PARAMETER_COUNT)] = None
    parameter_bytes: Annotated[int | None, attr(names.PYTORCH_MODEL_PARAMETER_SIZE)] = None
    dtype: Annotated[str | None, attr(names.PYTORCH_MODEL_DTYPE)] = None
    quantization: Annotated[str | None, attr(names.PYTORCH_MODEL_QUANTIZATION)] = None
    compiled: Annotated[bool | None, attr(names.PYTORCH_MODEL_COMPILED)] = None
    device_count: Annotated[int | None, attr(names.PYTORCH_MODEL_DEVICE_COUNT)] = None


class Input(NamedTuple):
    """The input tensor, from its shape."""

    batch_size: Annotated[int | None, attr(names.PYTORCH_INPUT_BATCH_SIZE)] = None
    sequence_length: Annotated[int | None, attr(names.PYTORCH_INPUT_SEQUENCE_LENGTH)] = None
    shape: Annotated[tuple[int, ...] | None, attr(names.PYTORCH_INPUT_SHAPE)] = None
