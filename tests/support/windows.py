"""Windows for tests, opened without an instrumented torch."""

from __future__ import annotations

from typing import Any

from warpspan.probes import clock
from warpspan.probes.runtime_device import RuntimeDevice
from warpspan.records import Device
from warpspan.runtime.scopes import leave
from warpspan.runtime.window import Window


def host() -> RuntimeDevice:
    """A CPU on which nothing ran."""
    return RuntimeDevice(Device("cpu"))


def open_window(
    runtime_device: RuntimeDevice,
    operation: str = "forward",
    model: Any = None,
    *,
    span: Any = ("span", False),
    on_close: Any = leave,
    **options: Any,
) -> Window:
    """A window that is the current scope until it is closed.

    Args:
        runtime_device: where it runs.
        operation: what runs.
        model: of the inference.
        span: its last item says whether it is recorded.
        on_close: called when it is closed.
        options: further ones of `Window`.
    """
    window = Window(
        runtime_device,
        span,
        clock.wall_ns(),
        clock.host_ns(),
        on_close,
        operation,
        model,
        **options,
    )
    window.begin()
    return window


def closed_window(runtime_device: RuntimeDevice, *args: Any, **options: Any) -> Window:
    """A window that was opened and closed; the arguments are those of `open_window`."""
    window = open_window(runtime_device, *args, **options)
    window.close()
    return window
