"""Forked and spawned processes: each exports its own inferences, and nothing is exported twice."""

from __future__ import annotations

import json
from collections import Counter

import pytest


@pytest.fixture(scope="module")
def results(program):
    """What each scenario of forks.py left behind."""
    # Newer Pythons warn of a fork of a process with threads, the SDK's and ours among them.
    done = program("forks.py", PYTHONWARNINGS="ignore::DeprecationWarning")
    return json.loads(done.stdout)


def spans(result):
    """How many spans of a name, a parent's name and a process there are, of a run that went well."""
    assert (0, "") == (result["code"], result["output"])
    return Counter((span["name"], span["parent"], span["process"]) for span in result["spans"])


def test_prefork(results):
    """The parent loads and infers, two children serve: each inference is exported once."""
    assert {
        ("warm-up", None, "main"): 3,
        ("serve", None, "child"): 4,
        ("after", None, "main"): 1,
    } == spans(results["prefork"])


def test_providers_set_after_the_fork(results):
    """A parent without providers leaves nothing behind in its children, which set their own."""
    result = results["post_fork"]
    assert {("serve", None, "child"): 4} == spans(result)
    durations = [
        line["value"]
        for line in result["metrics"]
        if line["metric"] == "pytorch.inference.duration"
    ]
    assert [2, 2] == durations


def test_forks_while_another_thread_infers(results):
    """No child hangs on a lock that the thread held, and none exports what the thread did."""
    result = results["fork_under_load"]
    # The SDK says it where its queue can't take so many spans.
    assert {"Queue full, dropping Span."} >= set(result["output"].splitlines())
    found = spans(result | {"output": ""})
    assert 3 == found.pop(("serve", None, "child"))
    assert [("load", None, "main")] == list(found)
    drops = [line["process"] for line in result["metrics"] if line["metric"] == "warpspan.dropped"]
    assert "child" not in drops


def test_a_fork_while_a_span_is_being_ended(results):
    """It waits for the finisher, so that no lock of the SDK stays taken in the child."""
    result = results["fork_while_finishing"]
    assert (0, "False\n") == (result["code"], result["output"])
    assert ["parent"] == [span["name"] for span in result["spans"]]


@pytest.mark.parametrize(
    ("scenario", "outer", "rest"),
    [
        ("fork_in_a_forward", {("forward Model", None, "main"): 1}, True),
        ("fork_in_a_step", {("named", None, "main"): 1}, True),
        (
            "fork_in_a_named_inference",
            {("named", "outer", "main"): 1, ("outer", None, "main"): 1},
            False,
        ),
    ],
)
def test_a_fork_inside_an_inference(results, scenario, outer, rest):
    """The inference is the parent's; what the child does in it is its own, and then it is out."""
    inside = "named" if "named" in [name for name, _, _ in outer] else "forward Model"
    assert {
        **outer,
        ("child", inside, "child"): 1,
        **({("forward Model", inside, "child"): 1} if rest else {}),  # the rest of the forward
        ("after", None, "child"): 1,
        ("after", None, "main"): 1,
    } == spans(results[scenario])


def test_a_forked_process(results):
    """Its inferences are exported, although multiprocessing skips exit handlers."""
    assert {
        ("parent", None, "main"): 1,
        ("starts", None, "main"): 1,
        ("child", "starts", "child"): 2,
    } == spans(results["forked_process"])


def test_forked_pools(results):
    """Those of multiprocessing and of concurrent.futures alike."""
    assert {
        ("pool", None, "child"): 3,
        ("executor", None, "child"): 3,
    } == spans(results["forked_pools"])


@pytest.mark.parametrize("scenario", ["data_loader", "data_loader_spawn"])
def test_data_loader_workers(results, scenario):
    """A data set that runs a model does so in its worker, forked or spawned."""
    parents = 2 if scenario == "data_loader" else 1
    assert {
        ("worker", None, "child"): 3,
        ("parent", None, "main"): parents,
    } == spans(results[scenario])


def test_data_loader_suppressed(results):
    """`suppress_instrumentation()` around the loader holds in its forked workers."""
    assert {("parent", None, "main"): 2} == spans(results["data_loader_suppressed"])


def test_a_spawned_process(results):
    """It unpickles a model that was called in the parent, and exports what it infers."""
    assert {("parent", None, "main"): 1, ("child", None, "child"): 1} == (
        spans(results["spawned_process"])
    )
