"""What a program may call itself: an inference by name, its steps, a profile, and a flush."""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from warpspan import guard
from warpspan.instrumentor import WarpspanInstrumentor, active_session, active_tracker
from warpspan.runtime.scopes import current, unwind

if TYPE_CHECKING:
    import torch
    from opentelemetry.util.types import AttributeValue

    from warpspan.deep.captures import Captures, Order
    from warpspan.report.notebook import Recording
    from warpspan.runtime.scopes import Skipped
    from warpspan.runtime.steps import MarkedStep
    from warpspan.runtime.window import Window
    from warpspan.session import Session

_logger = logging.getLogger("warpspan")

P = ParamSpec("P")
R = TypeVar("R")


class OpenInference:
    """The inference that a `with warpspan.inference(...)` block records.

    It takes attributes until the block ends, of the types that OpenTelemetry allows: strings,
    booleans, numbers, and sequences of these. Others are named in a warning of OpenTelemetry's.
    Does nothing where the inference is not recorded.
    """

    __slots__ = ("_window",)

    def __init__(self, window: Window | None) -> None:
        self._window = window

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Set one attribute of its span."""
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Set attributes of its span."""
        window = self._window
        if window is None:
            return
        if not window.open:
            _warn_ended(window.operation, attributes)
            return
        try:
            window.span[0].set_attributes(attributes)
        except Exception as error:
            guard.caught("attributes", error)


_NOT_RECORDED = OpenInference(None)
_warned_ended = False


def _warn_ended(operation: str, attributes: Mapping[str, AttributeValue]) -> None:
    global _warned_ended
    if not _warned_ended:
        _warned_ended = True
        _logger.warning(
            "The inference %r has ended: its attributes %s are ignored. Set attributes inside the "
            "`with` block. (logged once)",
            operation,
            ", ".join(map(repr, attributes)),
        )


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

    def _given(self, scope: Any) -> Any:  # noqa: ARG002 - for those who give something
        """What `as` names."""
        return None

    def __enter__(self) -> Any:
        before = current.get()
        count = len(self._scopes)
        try:
            if self._dropped is None:
                self._dropped = weakref.ref(self, functools.partial(_close, self._scopes))
            scope = self._open()
            self._scopes.append(scope)
            return self._given(scope)
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
        attributes: of its span from the start, so that samplers see them. Ours win over equal names.

    Raises:
        TypeError: the attributes are no mapping, or it decorates a generator function, which would
            end before its body does.
    """

    def __init__(
        self,
        operation: str = "inference",
        *,
        model: torch.nn.Module | str | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> None:
        if attributes is not None and not isinstance(attributes, Mapping):
            raise TypeError(
                "warpspan.inference takes attributes as a mapping of names to values, not as "
                f"{type(attributes).__name__}"
            )
        self._operation = operation
        self._model = model
        self._attributes = attributes
        super().__init__()

    def _open(self) -> Skipped | Window | None:
        tracker = active_tracker()
        if tracker is None:
            return None
        return tracker.open_named(self._operation, self._model, self._attributes)

    def _given(self, scope: Any) -> OpenInference:
        # A window takes steps, a call that is not recorded takes none.
        return OpenInference(scope) if scope is not None and scope.takes_steps else _NOT_RECORDED

    async def __aenter__(self) -> OpenInference:
        return self.__enter__()  # type: ignore[no-any-return]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Record each call of a function or coroutine function."""
        operation, model, attributes = self._operation, self._model, self._attributes
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"warpspan.inference can't decorate the generator {function.__qualname__}: "
                "use `with warpspan.inference(...)` inside it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_coroutine(*args: Any, **kwargs: Any) -> Any:
                with inference(operation, model=model, attributes=attributes):
                    return await function(*args, **kwargs)

            return run_coroutine  # type: ignore[return-value]

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with inference(operation, model=model, attributes=attributes):
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


class profile:  # noqa: N801 - as inference
    """Records the inferences inside a `with` block, for a report of them.

    Needs no provider and no instrumentation: without one, torch is instrumented for the block and
    nothing is exported. In a notebook, the object that the block gives renders the report:

        with warpspan.profile() as p:
            model(x)
        p

    Blocks may be nested. Inferences of other threads that run meanwhile are included.

    Raises:
        ModuleNotFoundError: on entering, where torch is not installed.
    """

    def __init__(self) -> None:
        self._entered: list[tuple[Session | None, Recording, dict[str, int], bool]] = []

    def __enter__(self) -> Recording:
        importlib.import_module("torch")  # instrumenting does not wait for its first import
        # Imported late: programs that only record pay for nothing of it.
        from warpspan.emit.emitter import private_provider
        from warpspan.report.notebook import Recording

        instrumentor = WarpspanInstrumentor()
        owned = not instrumentor.is_instrumented_by_opentelemetry
        if owned:
            instrumentor.instrument(tracer_provider=private_provider())
        recording, session = Recording(), active_session()
        skipped = {}
        if session is not None:
            session.finish()  # what ran before is not of the block
            skipped = session.skipped()
            session.stream.subscribe(f"profile {id(recording)}", recording.add)
        self._entered.append((session, recording, skipped, owned))
        return recording

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session, recording, before, owned = self._entered.pop()
        if session is not None:
            session.finish()
            session.stream.unsubscribe(f"profile {id(recording)}")
            recording.skipped = {
                reason: count - before.get(reason, 0)
                for reason, count in session.skipped().items()
                if count > before.get(reason, 0)
            }
        if owned:
            WarpspanInstrumentor().uninstrument()


def flush(timeout_s: float = 30.0) -> bool:
    """Finish the inferences that ended so far and have the exporters send them.

    Args:
        timeout_s: how long to wait, for the device and the exporters together.

    Returns:
        False where time ran out or an exporter failed; True where nothing is instrumented.
    """
    session = active_session()
    return True if session is None else session.flush(timeout_s)
