"""torch's C++ device guard for CUDA, which asks the driver even for a tensor without CUDA memory.

Autograd and some methods of tensors switch the device around their work. Where there is no driver
that ends the process. torch itself puts a guard that does nothing in its place for fake tensors,
since 2.8 and for good. The table of guards is a symbol of libc10 in every version, so the guard of
the meta device, which does nothing, can stand in for a while.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

import torch

# Positions in c10::DeviceType.
_CUDA, _META = 1, 14
_SYMBOL = "_ZN3c104impl26device_guard_impl_registryE"


class GuardSwitch:
    """Puts the guard that does nothing in CUDA's place, and CUDA's back.

    Raises:
        RuntimeError: this build of torch does not show its table of guards.
    """

    def __init__(self) -> None:
        suffix = {"darwin": "dylib"}.get(sys.platform, "so")
        library = Path(torch.__file__).parent / "lib" / f"libc10.{suffix}"
        try:
            table = ctypes.c_void_p * (_META + 1)
            self._table = table.in_dll(ctypes.CDLL(str(library)), _SYMBOL)
        except (OSError, ValueError) as error:
            raise RuntimeError(
                f"ScriptedDevice does not work with this build of torch: {error}"
            ) from error
        self._original = self._table[_CUDA]

    def off(self) -> None:
        """Ask the driver no more."""
        self._table[_CUDA] = self._table[_META]

    def on(self) -> None:
        """As it was."""
        self._table[_CUDA] = self._original


@functools.cache
def guard_switch() -> GuardSwitch:
    """The switch of this process."""
    return GuardSwitch()
