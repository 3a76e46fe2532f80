"""What became of a call, as a value: to compare torch with us with torch without us."""

import re
import warnings

import numpy as np
import pytest
import torch

# Addresses, and the symbols of jagged sizes, which are numbered through.
_CHANCE = re.compile(r"0x[0-9a-f]+|\bj[0-9]+\b")


def _words(text):
    return _CHANCE.sub("…", text)


def _values(tensor):
    if tensor.device.type == "meta" or "Fake" in type(tensor).__name__:
        return None
    with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
        if tensor.is_nested:
            return [_values(part) for part in tensor.unbind()]
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        tensor = tensor.detach().to_dense()
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor.resolve_conj())
        return tensor.tolist()


def described(value):
    """A result as something that can be compared: class, form and values."""
    if isinstance(value, torch.Tensor):
        with torch._C.DisableTorchFunctionSubclass():
            strided = value.layout == torch.strided and not value.is_nested
            return (
                type(value).__name__,
                str(value.dtype),
                str(value.layout),
                str(value.device),
                tuple(value.shape) if not value.is_nested else None,
                value.stride() if strided else None,
                value.requires_grad,
                value.is_inference(),
                _values(value),
            )
    if isinstance(value, np.ndarray):
        return type(value).__name__, str(value.dtype), _words(repr(value.tolist()))
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [described(item) for item in value]
    if isinstance(value, dict):
        return {key: described(item) for key, item in value.items()}
    return type(value).__name__, _words(repr(value))


@pytest.fixture(scope="session")
def outcome():
    """What a call gives, or the class and message of what it raises."""

    def run(call):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return "gave", described(call())
            except Exception as error:
                if "driver" in str(error):  # worded by what was asked of it before
                    return "raised", "there is no driver"
                return "raised", type(error).__name__, _words(str(error))

    return run
