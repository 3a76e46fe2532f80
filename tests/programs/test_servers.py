"""Services: one inference a request, whatever the server's processes and threads are."""

from __future__ import annotations

import pytest

from tests.programs.conftest import Span


@pytest.mark.parametrize(
    "kind",
    [
        "sync",
        "threads",
        pytest.param("gevent", marks=pytest.mark.chosen),
        "preload",
    ],
)
def test_gunicorn(recorded, kind):
    """Two workers; with gevent the export helper starts without its event loop."""
    # gevent finds the threads that the SDK has started in the worker before it looked.
    found = recorded("serve", kind, sdk_errors=kind == "gevent")
    assert [Span("forward Linear", 3)] * 4 == found


def test_uvicorn(recorded):
    """Two workers; the request's span is the parent."""
    inferences = [span for span in recorded("serve", "uvicorn") if "forward" in span.name]
    assert [Span("forward Linear", 3, parent="GET /")] * 4 == inferences


def test_litserve(recorded):
    """The model has a process of its own."""
    inferences = [span for span in recorded("serve", "litserve") if "forward" in span.name]
    assert [Span("forward Linear", 3)] * 4 == [span._replace(parent=None) for span in inferences]


@pytest.mark.chosen
def test_celery(recorded):
    """The task's span is the parent."""
    inferences = [span for span in recorded("tasks") if "forward" in span.name]
    assert [
        Span("forward Linear", 1, parent="run/predict"),
        Span("forward Linear", 2, parent="run/predict"),
    ] == inferences
