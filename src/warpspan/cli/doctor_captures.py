"""The check of captures: whether they are on, and what keeps them from running."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping

from warpspan import config
from warpspan.cli.finding import Finding, unlogged


def captures(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether inferences are profiled on demand, where that was asked for."""
    with unlogged():
        settings = config.load(environ=environ)
    if settings.deep is None and settings.deep_signal is None:
        return
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    # Imported late: they need torch.
    from warpspan.deep.kineto_source import NO_OPERATORS, sees_all_threads
    from warpspan.deep.other_profilers import tool_in

    if (reason := tool_in(environ)) is not None:
        yield Finding("warning", "captures", reason)
    elif not torch.cuda.is_available() and not sees_all_threads():
        yield Finding("warning", "captures", NO_OPERATORS)
    else:
        kept = settings.deep_directory
        yield Finding(
            "ok",
            "captures",
            f"on; traces are kept in {kept}" if kept else "on; traces are not kept",
            "" if kept else "OTEL_PYTHON_WARPSPAN_DEEP_DIRECTORY keeps them",
        )
