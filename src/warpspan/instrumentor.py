"""The OpenTelemetry instrumentor. Imports torch only once the host program does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

from warpspan import config, guard
from warpspan.hooks.on_import import OnImport

if TYPE_CHECKING:
    from warpspan.runtime.tracker import Tracker
    from warpspan.session import Session

_lock = threading.RLock()
_session: Session | None = None


class WarpspanInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Makes each PyTorch inference an OpenTelemetry span.

    `instrument()` takes `tracer_provider`, `meter_provider` (default: the global ones) and the
    fields of `warpspan.config.Settings`; `uninstrument()` puts torch back as it was.
    """

    #: Options that OpenTelemetry's declarative configuration may name.
    configuration = config.Configuration

    _wanted: tuple[config.Settings, Any, Any] | None = None
    _waiting: OnImport | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """The torch versions that are instrumented, pre-releases and vendor builds included."""
        return ("torch >= 2.4.0a0",)

    def _instrument(self, **kwargs: Any) -> None:
        tracer_provider = kwargs.pop("tracer_provider", None)
        meter_provider = kwargs.pop("meter_provider", None)
        self._wanted = (config.load(kwargs), tracer_provider, meter_provider)
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


def active_session() -> Session | None:
    """The session in use, or None while nothing is instrumented."""
    return _session


def active_tracker() -> Tracker | None:
    """The caller's side of the session in use, or None while nothing is instrumented."""
    session = _session
    return None if session is None else session.tracker
