"""torch.compile and torch.export do exactly what they do without warpspan."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

MODEL = ["forward Model", True]
EAGER = ["forward Model", False]
EXPORTED = ["forward GraphModule", False]
TWELVE = [[f"forward Model{number}", True] for number in range(12) for _ in range(2)]

OLD = torch.__version__.startswith("2.4.")

SPANS = {
    "default": [MODEL] * 4,
    "fullgraph": [MODEL] * 2,
    "dynamic": [MODEL] * 3,
    "graph_break": [["forward Breaks", True]] * 2,
    "in_place": [EAGER, MODEL, MODEL],
    # No module is called: `warpspan.inference()` serves there. Graphs of torch 2.4 call the layers.
    "function": [["forward Linear", False]] * 6 if OLD else [],
    "submodule": [EAGER] * 2,
    "hooked": [MODEL] * 2,
    "grad_modes": [MODEL] * 3,
    "training": [],
    "twelve_classes": TWELVE,
    "twelve_in_place": TWELVE,
    "switched": [MODEL] * 4,
    "exported": [EAGER, EXPORTED, EXPORTED] * 2,
}


@pytest.fixture(scope="module")
def results(program):
    """What Dynamo did, uninstrumented and patched before and after Dynamo was imported."""
    orders = ("never", "before", "after")
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda order: program("compiled.py", order), orders)
        return {order: json.loads(one.stdout) for order, one in zip(orders, done, strict=True)}


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("way", SPANS)
def test_nothing_is_compiled_more_or_differently(results, order, way):
    """The same graphs, operators, frames and graph breaks, and a span for each call."""
    assert results["never"][way]["dynamo"] == results[order][way]["dynamo"]
    assert SPANS[way] == results[order][way]["spans"]


def test_the_ways_compile_what_they_say(results):
    """The uninstrumented run has one graph a model and a graph break where there is one."""
    found = {way: result["dynamo"] for way, result in results["never"].items()}
    assert (12, 12) == (found["twelve_classes"]["graphs"], found["twelve_in_place"]["graphs"])
    assert (2, 2) == (found["default"]["graphs"], found["graph_break"]["graphs"])
    breaks = [way for way, counts in found.items() if counts["graph breaks"]]
    assert ["graph_break"] == breaks


def test_methods_of_tensors_are_traced_as_torchs_own(program):
    """Graphs, breaks, operators and results of compile, export, script and trace."""
    orders = ("never", "after")
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(lambda order: program("methods_compiled.py", order, timeout_s=1200), orders)
        expected, actual = (json.loads(one.stdout) for one in done)
    whole = expected["moves"]["whole"]
    assert (1, 4, 0) == (whole["graphs"], whole["operators"], whole["breaks"])
    assert expected == actual
