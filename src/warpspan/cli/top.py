"""`warpspan top`: the GPUs of this machine, the instrumented processes and their inferences."""

from __future__ import annotations

import json
import time
from contextlib import closing

from rich.live import Live

from warpspan.cli.finding import unlogged
from warpspan.cli.report import output_console
from warpspan.cli.top_keys import Keys
from warpspan.cli.top_snapshot import Machine
from warpspan.cli.top_state import View
from warpspan.cli.top_view import render
from warpspan.device import discovery
from warpspan.device.driver import Driver

_REFRESH_S = 1.0
# GPM needs two samples at least 100 ms apart.
_GPM_S = 0.2
# A process looks once a second whether somebody asks, and knows rates from the second time on.
_FIRST_S = 2.4


def top(*, as_json: bool, once: bool) -> None:
    """Show the machine until the user ends it, or once."""
    driver = discovery.open_driver()
    try:
        with unlogged():
            _top(driver, as_json=as_json, once=once)
    finally:
        driver.close()


def _top(driver: Driver, *, as_json: bool, once: bool) -> None:
    machine, view = Machine(driver), View()
    console = output_console(stderr=False)
    if as_json or once or not console.is_terminal:
        machine.snapshot()
        time.sleep(_FIRST_S)
        while True:
            snapshot = machine.snapshot()
            if as_json:
                print(json.dumps(snapshot), flush=True)
            else:
                view.note(snapshot)
                console.print(render(snapshot, view, console))
            if once or not as_json:
                return
            time.sleep(_REFRESH_S)
    machine.snapshot()
    time.sleep(_GPM_S)
    with closing(Keys()) as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        due_s = 0.0
        while True:
            now_s = time.monotonic()
            if now_s >= due_s:
                snapshot, due_s = machine.snapshot(), now_s + _REFRESH_S
                view.note(snapshot)
            live.update(render(snapshot, view, console, console.height), refresh=True)
            key = keys.read(due_s - time.monotonic())
            if key is not None and not view.press(key):
                return
