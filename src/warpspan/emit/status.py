"""What a process tells `warpspan top`: a small file, written only while somebody looks.

`top` touches the file `watch` in a directory of this user alone. A process in which inferences run
sees that, at most once a second, and writes `<pid>.json` beside it: the finisher after an inference,
and, on a GPU, the sampler. Nothing listens, nothing is sent.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from warpspan.emit.live import LiveFigures

if TYPE_CHECKING:  # it needs torch, which `top` does without
    from warpspan.device.meter import Meter
    from warpspan.records import Inference, Quantities

_WATCH = "watch"
_WATCHED_S = 10.0
_PERIOD_S = 1.0
# A process without a GPU writes only when inferences end.
_STALE_S = 60.0


def folder(environ: Mapping[str, str]) -> Path:
    """The directory of this user: under XDG_RUNTIME_DIR, else under the one for temporary files."""
    if environ.get("XDG_RUNTIME_DIR"):
        return Path(environ["XDG_RUNTIME_DIR"]) / "warpspan"
    name = f"warpspan-{os.getuid()}" if hasattr(os, "getuid") else "warpspan"
    return Path(tempfile.gettempdir()) / name


def is_private(path: Path) -> bool:
    """Whether a path is a directory of this user that nobody else may enter.

    Where the system does not say so (Windows), it is taken as unsafe and nothing is told.
    """
    if not hasattr(os, "getuid"):
        return False
    try:
        found = path.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.getuid()
        and not stat.S_IMODE(found.st_mode) & 0o077
    )


class Publisher:
    """Writes what this process has to tell, while somebody looks.

    Args:
        environ: the environment of this process.
        meters: those of the GPUs in use.
        service: the name of the service, as the program set it; None for none.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        meters: Callable[[], Iterable[Meter]] = tuple,
        service: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._folder = folder(environ)
        self._meters = meters
        self._service = service
        self.reset()

    def reset(self) -> None:
        """Start anew, as in a forked child, whose file is another one."""
        self._before: dict[Meter, tuple[float, int, int, Quantities]] = {}
        self._figures = LiveFigures()
        self._written: Path | None = None
        self._since_s = 0.0
        self._due_s = 0.0
        self._watched = False
        # Taken without waiting: the finisher and the sampler may come at once.
        self._busy = threading.Lock()

    def add(self, _: Any, record: Inference) -> None:
        """Take a finished inference; write, if somebody looks and it is time."""
        self.tick()
        if self._watched:
            self._figures.add(record)

    def tick(self) -> None:
        """Once a second, see whether somebody looks, and write."""
        now_s = time.monotonic()
        if now_s < self._due_s or not self._busy.acquire(blocking=False):
            return
        try:
            self._due_s = now_s + _PERIOD_S
            self._watched, before = self._is_watched(), self._watched
            if not self._watched:
                self._before.clear()
                self._figures.clear()
                return
            if not before:
                self._since_s = time.time()
            self._write(now_s)
        finally:
            self._busy.release()

    def _write(self, now_s: float) -> None:
        text = json.dumps(
            {
                "pid": os.getpid(),
                "service": self._service() or Path(sys.argv[0] or "python").name,
                "unix_time": time.time(),
                "since": self._since_s,
                "devices": [self._device(meter, now_s) for meter in self._meters()],
                "inferences": list(self._figures.to_json()),
            }
        )
        target = self._folder / f"{os.getpid()}.json"
        draft = target.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(draft, flags, 0o600), "w") as stream:
            stream.write(text)
        draft.replace(target)
        self._written = target

    def close(self) -> None:
        """Take back what was written."""
        if self._written is not None:
            self._written.unlink(missing_ok=True)

    def _is_watched(self) -> bool:
        try:
            age_s = time.time() - (self._folder / _WATCH).stat().st_mtime
        except OSError:
            return False
        return age_s < _WATCHED_S and is_private(self._folder)

    def _device(self, meter: Meter, now_s: float) -> dict[str, Any]:
        current = (now_s, meter.inferences, meter.measured, meter.reported)
        before = self._before.get(meter)
        self._before[meter] = current
        device = meter.runtime_device.device
        found: dict[str, Any] = {
            "id": meter.latest.device_id if meter.latest is not None else device.id,
            "index": device.ordinal,
            "open": meter.runtime_device.open,
            "inferences": meter.inferences,
        }
        if before is None:
            return found
        passed_s = now_s - before[0]
        measured = meter.measured - before[2]
        found["inferences_per_s"] = (meter.inferences - before[1]) / passed_s
        if measured:
            for name, now, then in zip(
                ("gpu_s", "joules", "cycles_active", "cycles_elapsed"),
                meter.reported,
                before[3],
                strict=True,
            ):
                if now is not None:
                    found[f"{name}_per_inference"] = (now - (then or 0.0)) / measured
        return found


def watch(environ: Mapping[str, str]) -> bool:
    """Ask the processes of this user to tell; False where the directory is not safe to use."""
    path = folder(environ)
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        if not is_private(path):
            return False
        (path / _WATCH).touch(mode=0o600)
    except OSError:
        return False
    return True


def read(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the processes of this user told lately. Files of processes that ended are removed."""
    path = folder(environ)
    if not is_private(path):
        return []
    found = []
    for file in sorted(path.glob("*.json")):
        try:
            told = json.loads(file.read_text())
            if not _is_alive(told["pid"]):
                file.unlink(missing_ok=True)
            elif time.time() - told["unix_time"] < _STALE_S:
                found.append(told)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half a file, or none of ours
    return found


def _is_alive(pid: int) -> bool:
    """Whether a process of this user exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
