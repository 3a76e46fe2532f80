"""Rows as the user wants them: folded, filtered, sorted, with their histories."""

from __future__ import annotations

import pytest

from warpspan.cli.top_state import ORDERS, View

ONE = {
    "pid": 41,
    "service": "shop",
    "operation": "generate",
    "model": "Llama",
    "device_id": "GPU-0",
    "inferences": 7,
    "failed": 1,
    "durations_s": [0.1, 0.2, 0.3],
    "inferences_per_s": 3.0,
    "tokens_per_s": 96.0,
    "cpu_s_per_inference": 0.1,
    "queue_s_per_inference": None,
    "gpu_s_per_inference": 0.4,
    "joules_per_inference": 2.0,
}
TWIN = {
    **ONE,
    "pid": 42,
    "device_id": "GPU-1",
    "durations_s": [0.9],
    "inferences_per_s": 1.0,
    "gpu_s_per_inference": 0.8,
}
SEARCH = {
    **ONE,
    "pid": 9,
    "service": "search",
    "operation": "encode",
    "model": None,
    "inferences_per_s": 50.0,
    "tokens_per_s": None,
    "gpu_s_per_inference": 0.01,
}
GPU = {"id": "GPU-0", "sm_utilization": None, "utilization": 0.9}
SNAPSHOT = {"inferences": [ONE, TWIN, SEARCH], "devices": [GPU]}


@pytest.fixture
def view():
    return View()


def press(view, keys):
    """Whether it goes on after each of some keys."""
    return [view.press(key) for key in keys]


def test_processes_of_a_service_are_one_row(view):
    """Rates add up, means are weighted by rate, percentiles are over all durations."""
    row = view.rows(SNAPSHOT)[1]
    assert ("shop", "generate Llama", (41, 42), ("GPU-0", "GPU-1")) == row[:4]
    assert (4.0, 2, 0.2, 0.9, 192.0) == (row.rate, row.failed, row.p50_s, row.p95_s, row.tokens)
    assert (None, pytest.approx(0.5), 2.0) == (row.queue_s, row.gpu_s, row.joules)


def test_unfolded(view):
    """A row for each process and device."""
    press(view, "f")
    assert [(9,), (41,), (42,)] == [row.pids for row in view.rows(SNAPSHOT)]


def test_sorting(view):
    """By the next column, the highest first; what is not known is last in both directions."""
    order = []
    for _ in ORDERS:
        order.append([row.service for row in view.rows(SNAPSHOT)])
        press(view, "s")
    assert [
        ["search", "shop"],
        ["shop", "search"],
        ["shop", "search"],
        ["shop", "search"],
    ] == order[:4]
    view.order = 2  # tokens, which `search` has none of
    press(view, "r")
    assert ["shop", "search"] == [row.service for row in view.rows(SNAPSHOT)]
    view.order = 0
    assert ["shop", "search"] == [row.service for row in view.rows(SNAPSHOT)]


@pytest.mark.parametrize(
    ("keys", "services"),
    [
        (["/", *"LLAMA"], ["shop"]),
        (["/", *"sear", "enter"], ["search"]),
        (["/", *"42x", "backspace", "enter"], ["shop"]),
        (["/", *"nobody", "escape"], ["search", "shop"]),
        (["/", *"nobody", "enter"], []),
        (["/", *"q", "enter", "escape"], ["search", "shop"]),
    ],
)
def test_filter(view, keys, services):
    """A part of a service, an operation, a model or a process id, in any case, while it is typed."""
    assert all(press(view, keys))
    assert services == [row.service for row in view.rows(SNAPSHOT)]


def test_other_keys(view):
    """q ends; the rest moves or does nothing."""
    assert [True] * 7 == press(view, ["down", "j", "up", "k", "up", "p", "x"])
    assert (0, True) == (view.offset, view.processes)
    assert not view.press("q")


def test_histories(view):
    """Those of folded processes add up; who came later has blanks; who went is forgotten."""
    view.note({**SNAPSHOT, "inferences": [ONE]})
    view.note(SNAPSHOT)
    assert (3.0, 4.0) == view.rows(SNAPSHOT)[1].history
    assert (0.9, 0.9) == view.history("GPU-0")
    view.note({"inferences": [], "devices": []})
    assert () == view.history("GPU-0")
    for _ in range(70):
        view.note(SNAPSHOT)
    assert 60 == len(view.rows(SNAPSHOT)[0].history)
