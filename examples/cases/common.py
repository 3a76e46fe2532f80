"""What the cases share: the device, the choice between the fault and its cure, and requests."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from opentelemetry import trace

_tracer = trace.get_tracer("examples.cases")


def is_cured(description: str) -> bool:
    """Whether the command line asks for the program without its fault."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cured", action="store_true", help="without the fault")
    return bool(parser.parse_args().cured)


def device() -> torch.device:
    """The first GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def is_simulated() -> bool:
    """Whether the GPU is the virtual one, whose kernels compute nothing."""
    return "virtual GPU" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")


def serve(answer: Callable[[Any], object], requests: Iterable[Any]) -> None:
    """Answer requests one after the other, each inside a span as a web framework makes it."""
    for request in requests:
        with _tracer.start_as_current_span("POST /infer", kind=trace.SpanKind.SERVER):
            answer(request)
