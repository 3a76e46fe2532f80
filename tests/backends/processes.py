"""Programs that a test starts: on free ports of loopback, each with its words in a file."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
START_S = 120  # what a program gets to answer, and an answer to become what it must be
STOP_S = 60


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nothing listens on, all different."""
    with contextlib.ExitStack() as open_:
        sockets = [open_.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def eventually(
    ask: Callable[[], T], is_enough: Callable[[T], bool] = bool, within_s: float = START_S
) -> T:
    """The first answer that is enough, or the last one when the time is up.

    Stores show what they took some time later, and none of them tells when.
    """
    give_up = time.monotonic() + within_s
    while not is_enough(answer := ask()) and time.monotonic() < give_up:
        time.sleep(0.2)
    return answer


def get(url: str, **parameters: Any) -> Any:
    """The JSON that an address answers with.

    Raises:
        AssertionError: it refused; its words are in the message.
    """
    query = urllib.parse.urlencode(parameters, doseq=True)
    request = urllib.request.Request(f"{url}?{query}" if query else url)
    request.add_header("Accept", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{request.full_url}: {error.code} {error.read()!r}") from error


def answers(url: str) -> bool:
    """Whether an address answers with success."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return 200 <= answer.status < 300
    except (OSError, urllib.error.URLError):
        return False


class Process:
    """One program, started when made.

    Args:
        name: for its log and for messages.
        command: its command line.
        folder: where its log goes.
        environment: beside the test's own.
        is_ready: whether it answers by now.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        is_ready: Callable[[], bool] = lambda: True,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = [str(part) for part in command]
        self._environment = {**os.environ, **(environment or {})}
        self._is_ready = is_ready
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, or start it again, and wait until it is ready."""
        with self.log.open("ab") as words:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._cwd,
            )
        ready = eventually(lambda: self.ended or self._is_ready())
        if self.ended or not ready:
            code = self._process.poll()
            self.kill()
            raise AssertionError(
                f"{self.name} "
                + (f"ended with {code}" if code is not None else f"is not ready after {START_S} s")
                + f":\n{self.words()[-4000:]}"
            )

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._process is None or self._process.poll() is not None

    def words(self) -> str:
        """What it said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it in good order; its exit code."""
        assert self._process is not None
        if not self.ended:
            self._process.send_signal(how)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(
                    f"{self.name} did not stop within {STOP_S} s:\n{self.words()[-4000:]}"
                ) from None
        return self._process.returncode

    def kill(self) -> None:
        """End it at once, as a machine's failure would."""
        if self._process is not None and not self.ended:
            self._process.kill()
            self._process.wait()

    def stop_when_it_says(self, words: str) -> None:
        """End it once it has said so after SIGTERM, for what takes minutes to end after that."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert eventually(lambda: self.ended or words in self.words(), within_s=STOP_S)
        self.kill()

    def freeze(self) -> None:
        """Let it hang: its connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def slowed(self) -> Iterator[None]:
        """Let it run a fifth of the time while the block runs."""
        over = threading.Event()

        def turns() -> None:
            while not over.wait(0.1):
                self.freeze()
                over.wait(0.4)
                self.thaw()

        thread = threading.Thread(target=turns)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@contextlib.contextmanager
def running() -> Iterator[Callable[..., Process]]:
    """Starts processes that end with the block, the last one first."""
    started: list[Process] = []

    def start(*arguments: Any, **options: Any) -> Process:
        process = Process(*arguments, **options)
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in reversed(started):
            process.kill()


def certificate(folder: Path, host: str = "127.0.0.1") -> tuple[Path, Path]:
    """A certificate for a host on this machine, signed by itself, and its key."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "openssl makes the certificates of these tests: install it"
    pem, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=warpspan-tests", "-keyout", str(key)),
            *("-addext", f"subjectAltName=IP:{host}", "-out", str(pem)),
        ],
        check=True,
        capture_output=True,
    )
    return pem, key
