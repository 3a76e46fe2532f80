"""Reading tensors unseen: modes and subclasses of the program's are not called for what we read."""

from __future__ import annotations

import torch

_modes = torch._C._len_torch_function_stack
_is_enabled = torch._C._is_torch_function_enabled

#: While one is entered, torch calls neither a `TorchFunctionMode` nor a `__torch_function__`.
Unseen = torch._C.DisableTorchFunction
#: Whether torch would call one of them for a tensor.
has_torch_function = torch._C._has_torch_function_unary


def is_watched() -> bool:
    """Whether a `TorchFunctionMode` of the program's sees what is read of any tensor."""
    return bool(_modes()) and _is_enabled()
