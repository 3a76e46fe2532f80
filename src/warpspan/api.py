"""What a program may call itself: an inference by name, its steps, and a flush."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from warpspan.instrumentor import active_session, active_tracker
from warpspan.runtime.scopes import current, unwind

if TYPE_CHECKING:
    import torch

    from warpspan.runtime.scopes import Skipped
    from warpspan.runtime.steps import MarkedStep
    from warpspan.runtime.window import Window

P = ParamSpec("P")
R = TypeVar("R")


class _Block:
    """A `with` block that is a scope; threads and tasks may be inside the same object at once.

    Python may run a signal handler between the end of a block and the first instruction of its
    `__exit__`. The `with` statement then lets go of the object, and its scope is closed.
    """

    def __init__(self) -> None:
        self._scopes: list[Any] = []
        self._dropped: weakref.ref[Any] | None = None

    def _open(self) -> Any:
        """The scope; None where nothing is recorded."""
        raise NotImplementedError

    def __enter__(self) -> None:
        before = current.get()
        count = len(self._scopes)
        try:
            if self._dropped is None:
                self._dropped = weakref.ref(self, functools.partial(_close, self._scopes))
            self._scopes.append(self._open())
        except BaseException:
            del self._scopes[count:]
            unwind(before)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        count = len(self._scopes)
        try:
            self._end(error)
        except BaseException:
            if len(self._scopes) == count:
                self._end(error)
            raise

    def _end(self, error: BaseException | None) -> None:
        scopes = self._scopes
        # Each thread and task leaves its own.
        for scope in reversed(scopes):
            if scope is not None and scope.is_current:
                break
        else:
            scope = scopes[-1]
        if scope is not None:
            if error is not None:
                scope.fail(error)
            scope.close()
        if len(scopes) == 1:
            self._dropped = None
        scopes.remove(scope)


def _close(scopes: list[Any], _: object) -> None:
    for scope in reversed(scopes):
        if scope is not None:
            scope.close()
    tracker = active_tracker()
    if tracker is not None:
        tracker.innermost()  # those around them may have ended meanwhile


class inference(_Block):  # noqa: N801 - reads as the verb it is: with warpspan.inference("rerank")
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
        super().__init__()

    def _open(self) -> Skipped | Window | None:
        tracker = active_tracker()
        return None if tracker is None else tracker.open_named(self._operation, self._model)

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


class step(_Block):  # noqa: N801 - as inference
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
        super().__init__()

    def _open(self) -> MarkedStep | None:
        tracker = active_tracker()
        if tracker is None:
            return None
        # Imported late: it needs torch.
        from warpspan.runtime.library_calls import open_mark

        return open_mark(tracker, self._name)


def flush(timeout_s: float = 30.0) -> bool:
    """Finish the inferences that ended so far and have the exporters send them.

    Args:
        timeout_s: how long to wait, for the device and the exporters together.

    Returns:
        False where time ran out or an exporter failed; True where nothing is instrumented.
    """
    session = active_session()
    return True if session is None else session.flush(timeout_s)
