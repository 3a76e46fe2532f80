"""What the programs of users do to a model, in small: each action says how many calls it made."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

import warpspan
from warpspan.instrumentor import active_session

# Many times what fits before the interrupt.
_MOST_CALLS = 2_000


class Calls(NamedTuple):
    """Calls that are to be found as recorded, dropped or skipped.

    Args:
        least: those that came back.
        most: those that were begun; an interrupt may come before warpspan sees a call.
    """

    least: int
    most: int


class Broken(nn.Module):
    """A model that fails.

    Args:
        error: what it raises.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self._error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute, then raise."""
        self.linear(x)
        raise self._error


class Interrupted(Exception):  # noqa: N818 - as Celery's SoftTimeLimitExceeded
    """Raised by a signal handler in the middle of anything."""


class Load:
    """The models, and the actions on them.

    Args:
        seed: of the choice of actions.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._x = torch.zeros(2, 4)
        self._models = [
            functools.partial(nn.Linear(4, 4).eval(), self._x),
            functools.partial(nn.LSTM(4, 4, batch_first=True).eval(), self._x[None]),
            functools.partial(nn.TransformerEncoderLayer(4, 2, 8).eval(), self._x[None]),
            functools.partial(nn.Sequential(*(nn.Linear(4, 4) for _ in range(20))).eval(), self._x),
        ]
        self._broken = [
            Broken(ValueError("wrong")).eval(),
            Broken(torch.OutOfMemoryError("Tried to allocate 2.00 GiB")).eval(),
        ]
        self._trained = nn.Linear(4, 4)
        #: Interrupts that never reached the program.
        self.swallowed = 0
        signal.signal(signal.SIGALRM, _interrupt)
        self._actions = (
            self.forward,
            self.fail,
            self.train,
            self.name,
            self.thread,
            self.close_generator,
            self.cancel,
            self.interrupt,
        )

    def act(self) -> Calls:
        """One of the actions, by chance."""
        return self._random.choice(self._actions)()

    def forward(self) -> Calls:
        """A burst of calls."""
        for _ in range(count := self._random.randint(1, 60)):
            self._random.choice(self._models)()
        return Calls(count, count)

    def fail(self) -> Calls:
        """A call that raises."""
        model = self._random.choice(self._broken)
        try:
            model(self._x)
        except (ValueError, torch.OutOfMemoryError):
            pass
        return Calls(1, 1)

    def train(self) -> Calls:
        """A step of training, which is skipped."""
        with torch.enable_grad():
            self._trained(self._x).sum().backward()
        self._trained.zero_grad()
        return Calls(1, 1)

    def name(self) -> Calls:
        """A named inference with steps."""
        with warpspan.inference("soak"):
            for _ in range(3):
                self._models[0]()
        return Calls(1, 1)

    def thread(self) -> Calls:
        """Calls on four threads at once."""
        threads = [threading.Thread(target=self._models[0]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Calls(4, 4)

    def close_generator(self) -> Calls:
        """An inference around the items of a generator, of which the consumer takes one."""

        def items() -> Iterator[Any]:
            with warpspan.inference("stream"):
                while True:
                    yield self._models[0]()

        generator = items()
        next(generator)
        del generator
        return Calls(1, 1)

    def cancel(self) -> Calls:
        """Inferences of coroutines, one of which is cancelled."""

        async def infer(pause_s: float) -> None:
            with warpspan.inference("coroutine"):
                self._models[0]()
                await asyncio.sleep(pause_s)

        async def main() -> None:
            tasks = [asyncio.create_task(infer(0)), asyncio.create_task(infer(3600))]
            await tasks[0]
            tasks[1].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(main())
        return Calls(2, 2)

    def interrupt(self) -> Calls:
        """Calls until a signal's handler raises in one of them."""
        least = most = 0
        try:
            signal.setitimer(signal.ITIMER_REAL, self._random.uniform(0.0005, 0.003))
            for most in range(1, _MOST_CALLS + 1):
                self._models[0]()
                least = most
        except Interrupted:
            return Calls(least, most)
        self.swallowed += 1
        return Calls(least, most)


def fork() -> bool:
    """Whether three calls in a forked child are counted there, once each."""
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if _child_counts() else 1
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def _child_counts() -> bool:
    records: list[Any] = []
    session = active_session()
    if session is None:
        return False
    session.stream.subscribe("child", lambda _, record: records.append(record))
    model = nn.Linear(4, 4).eval()
    for _ in range(3):
        model(torch.zeros(2, 4))
    return session.finisher.flush(30.0) and len(records) == 3


def _interrupt(*_: Any) -> None:
    raise Interrupted
