"""An application that infers at a steady rate and tells how long each inference held its caller up.

Orders come on standard input, one a line: `infer SECONDS`, answered by the seconds of each
inference as a list, and `flush`, answered by an empty one. It knows nothing of telemetry but how to
flush it.

Argument: inferences a second.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from opentelemetry import trace
from torch import nn

import warpspan


def inferences(model: nn.Module, x: torch.Tensor, interval_s: float, seconds: float) -> list[float]:
    """The seconds of each inference; one that is late does not hurry the next."""
    took = []
    due = time.perf_counter()
    until = due + seconds
    while due < until:
        time.sleep(max(0.0, due - time.perf_counter()))
        begin = time.perf_counter()
        model(x)
        end = time.perf_counter()
        took.append(end - begin)
        due = max(due + interval_s, end)
    return took


def main() -> None:
    interval_s = 1 / float(sys.argv[1])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [layer for _ in range(20) for layer in (nn.Linear(64, 64), nn.ReLU())]
    model = nn.Sequential(*layers).eval()
    x = torch.randn(8, 64)
    with torch.inference_mode():
        print("[]", flush=True)
        for line in sys.stdin:
            order, *seconds = line.split()
            took = inferences(model, x, interval_s, float(seconds[0])) if seconds else []
            if order == "flush":
                warpspan.flush()
                trace.get_tracer_provider().force_flush()
            print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main()
