"""The OpenTelemetry instrumentor. Imports torch only once the host program does."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

from warpspan import config, guard
from warpspan.hooks.on_import import OnImport
from warpspan.runtime.user_hooks import UserHooks

if TYPE_CHECKING:
    from warpspan.runtime.tracker import Tracker
    from warpspan.session import Session

_logger = logging.getLogger("warpspan")
_lock = threading.RLock()
_session: Session | None = None


class WarpspanInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Makes each PyTorch inference an OpenTelemetry span.

    `instrument()` takes `tracer_provider`, `meter_provider` (default: the global ones),
    `request_hook(span, called, args, kwargs)`, `response_hook(span, called, result)` and the
    fields of `warpspan.config.Settings`; `uninstrument()` puts torch back as it was.

    The hooks see each call of a module or a library that is a recorded inference, on its thread:
    the request hook before it runs, the response hook once it returned. `called` is the module, or
    the library's object, such as a pipeline. Their time counts as the inference's, so they should
    set attributes and do nothing that waits for the device. What they raise is counted in
    `warpspan.faults` and logged once.
    """

    #: Options that OpenTelemetry's declarative configuration may name.
    configuration = config.Configuration

    _wanted: tuple[config.Settings, Any, Any, UserHooks | None] | None = None
    _waiting: OnImport | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """The torch versions that are instrumented, pre-releases and vendor builds included."""
        return ("torch >= 2.4.0a0",)

    def _instrument(self, **kwargs: Any) -> None:
        tracer_provider = kwargs.pop("tracer_provider", None)
        meter_provider = kwargs.pop("meter_provider", None)
        hooks = _user_hooks(kwargs.pop("request_hook", None), kwargs.pop("response_hook", None))
        self._wanted = (config.load(kwargs), tracer_provider, meter_provider, hooks)
        if "torch" in sys.modules and hasattr(sys.modules["torch"], "nn"):
            self._patch()
        else:
            self._waiting = OnImport("torch", lambda _: self._patch())

    def _patch(self) -> None:
        global _session
        # Imported late: it needs torch, and the host pays for that only when it uses it itself.
        from warpspan.session import Session

        with _lock:
            if self._wanted is None or _session is not None:
                return
            try:
                _session = Session(*self._wanted)
            except Exception as error:
                guard.caught("instrument", error)

    def _uninstrument(self, **kwargs: Any) -> None:  # noqa: ARG002
        global _session
        with _lock:
            self._wanted = None
            waiting, self._waiting = self._waiting, None
            session, _session = _session, None
        if waiting is not None:
            waiting.cancel()
        if session is not None:
            session.remove()


def _user_hooks(request: Any, response: Any) -> UserHooks | None:
    """Those that can be called; what can't is named in a warning."""
    for name, hook in (("request_hook", request), ("response_hook", response)):
        if hook is not None and not callable(hook):
            _logger.warning("%s=%r is not valid: give a function. Using none.", name, hook)
    request, response = (hook if callable(hook) else None for hook in (request, response))
    return None if request is response is None else UserHooks(request, response)


def active_session() -> Session | None:
    """The session in use, or None while nothing is instrumented."""
    return _session


def active_tracker() -> Tracker | None:
    """The caller's side of the session in use, or None while nothing is instrumented."""
    session = _session
    return None if session is None else session.tracker
