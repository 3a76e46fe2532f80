"""torch.profiler knows the calls of modules by a code object that it remembers for ever."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor


def test_events_of_modules_in_each_order(program):
    """Whether the first profile was before warpspan, under it or after it, and in the ones after."""
    with ThreadPoolExecutor(2) as pool:
        runs = pool.map(lambda order: program("profiled_modules.py", order), ("on", "off"))
        found = [json.loads(run.stdout.splitlines()[-1]) for run in runs]
    assert [[["nn.Module: Linear_0", "nn.Module: Model_0"]] * 3] * 2 == found
