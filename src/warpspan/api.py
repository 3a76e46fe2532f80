"""What a program may call itself: an inference by name, its steps, and a flush."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from warpspan.instrumentor import active_session, active_tracker

if TYPE_CHECKING:
    import torch

    from warpspan.deep.captures import Captures, Order
    from warpspan.runtime.scopes import Skipped
    from warpspan.runtime.steps import MarkedStep
    from warpspan.runtime.window import Window

P = ParamSpec("P")
R = TypeVar("R")


class inference:  # noqa: N801 - reads as the verb it is: with warpspan.inference("rerank")
    """Records what runs inside as one inference, its module calls as steps of it.

    For code that has no module call of its own: compiled functions, engines, loops. Works as a
    context manager, also around `await`, and as a decorator of functions and coroutine
    functions. Does nothing while warpspan is not instrumented.

    Args:
        operation: what it does; the span's name, so keep it to a few values.
        model: the module that runs, which names model and device, or only the model's name.
            Without it the first step tells.

    Raises:
        TypeError: as a decorator of a generator function, which would end before its body does.
    """

    def __init__(
        self, operation: str = "inference", *, model: torch.nn.Module | str | None = None
    ) -> None:
        self._operation = operation
        self._model = model
        self._scopes: list[Skipped | Window | None] = []

    def __enter__(self) -> None:
        tracker = active_tracker()
        self._scopes.append(
            None if tracker is None else tracker.open_named(self._operation, self._model)
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scope = self._take()
        if scope is not None:
            if error is not None:
                scope.fail(error)
            scope.close()

    def _take(self) -> Skipped | Window | None:
        # Several threads and tasks may be inside the same object: each leaves its own.
        for scope in reversed(self._scopes):
            if scope is not None and scope.is_current:
                self._scopes.remove(scope)
                return scope
        return self._scopes.pop()

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Record each call of a function or coroutine function."""
        operation, model = self._operation, self._model
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"warpspan.inference can't decorate the generator {function.__qualname__}: "
                "use `with warpspan.inference(...)` inside it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_coroutine(*args: Any, **kwargs: Any) -> Any:
                with inference(operation, model=model):
                    return await function(*args, **kwargs)

            return run_coroutine  # type: ignore[return-value]

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with inference(operation, model=model):
                return function(*args, **kwargs)

        return run


class step:  # noqa: N801 - as inference
    """Marks what runs inside as one step of the inference that is open, for loops of your own.

    The module calls inside are part of the step. With the names `prefill` and `decode` the
    inference gets the figures of a generation (time to first token, per token), with `denoise`
    those of a diffusion; steps of other names, or of none, are summed up alike. Does nothing
    outside `warpspan.inference()`.

    Args:
        name: what the step is; keep it to a few values.
    """

    def __init__(self, name: str | None = None) -> None:
        self._name = name
        self._marks: list[MarkedStep | None] = []

    def __enter__(self) -> None:
        tracker = active_tracker()
        mark = None
        if tracker is not None:
            # Imported late: it needs torch.
            from warpspan.runtime.library_calls import open_mark

            mark = open_mark(tracker, self._name)
        self._marks.append(mark)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Several threads may be inside the same object: each leaves its own.
        mark = next((mark for mark in reversed(self._marks) if mark and mark.is_current), None)
        if mark is None:
            self._marks.pop()
        else:
            self._marks.remove(mark)
            mark.close()


class capture:  # noqa: N801 - as inference
    """Has a profiler record the inferences that run inside.

    Their spans get kernels and idle time of the device (docs/profiling.md). Entering waits until
    the profiler runs, which may take seconds the first time in a process; leaving waits for
    nothing. Does nothing while warpspan is not instrumented, or where another profiler is at work,
    and says so once in the log. At most 1,000 inferences, and a minute.
    """

    def __init__(self) -> None:
        self._orders: list[tuple[Captures, Order]] = []

    def __enter__(self) -> None:
        session = active_session()
        if session is not None:
            self._orders.append((session.captures, session.captures.open_block()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._orders:
            captures, order = self._orders.pop()
            captures.close_block(order)


def flush(timeout_s: float = 30.0) -> bool:
    """Finish the inferences that ended so far and have the exporters send them.

    Args:
        timeout_s: how long to wait, for the device and the exporters together.

    Returns:
        False where time ran out or an exporter failed; True where nothing is instrumented.
    """
    session = active_session()
    return True if session is None else session.flush(timeout_s)
