"""Keys of a terminal, as they are pressed, without the terminal's own echo."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

_SEQUENCES = {"\x1b[A": "up", "\x1b[B": "down", "\x1b": "escape", "\r": "enter", "\n": "enter"}
_SEQUENCES |= {"\x7f": "backspace", "\x08": "backspace", "\x1bOA": "up", "\x1bOB": "down"}
_POLL_S = 0.05


class Keys:
    """Reads keys until it is closed. Where standard input is no terminal there are none."""

    def __init__(self) -> None:
        self._saved: Any = None
        self._pending = ""
        if sys.stdin is not None and sys.stdin.isatty() and sys.platform != "win32":
            import termios
            import tty

            self._saved = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin, termios.TCSADRAIN)  # Ctrl-C stays a signal

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._saved is not None and sys.platform != "win32":
            import termios

            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._saved)

    def read(self, timeout_s: float) -> str | None:
        """The next key, None where none was pressed in time. `up`, `enter` … for those without a sign."""
        timeout_s = max(0.0, timeout_s)
        if sys.platform == "win32":
            return _read_console(timeout_s)
        if self._saved is None:
            time.sleep(timeout_s)
            return None
        import select

        if not self._pending:
            if not select.select([sys.stdin], [], [], timeout_s)[0]:
                return None
            self._pending = os.read(sys.stdin.fileno(), 256).decode(errors="replace")
        # The signs of one key come at once, and several keys may, too.
        length = next((n for n in (3, 1) if self._pending[:n] in _SEQUENCES), 1)
        key, self._pending = self._pending[:length], self._pending[length:]
        return _SEQUENCES.get(key, key if key.isprintable() else None)


def _read_console(timeout_s: float) -> str | None:
    if sys.platform != "win32":
        return None
    import msvcrt

    until_s = time.monotonic() + timeout_s
    while not msvcrt.kbhit():
        if time.monotonic() >= until_s:
            return None
        time.sleep(_POLL_S)
    sign = msvcrt.getwch()
    if sign in "\x00\xe0":
        return {"H": "up", "P": "down"}.get(msvcrt.getwch())
    return _SEQUENCES.get(sign, sign if sign.isprintable() else None)
