"""Children that were forked by C code, without Python's hooks: each infers and exports for itself."""

from __future__ import annotations

import json
from collections import Counter

import pytest


@pytest.fixture(scope="module")
def results(program):
    """What each scenario of c_forks.py left behind."""
    return json.loads(program("c_forks.py").stdout)


def spans(result):
    """How many spans of a name and a process there are, of a run that went well."""
    assert (0, "") == (result["code"], result["output"])
    return Counter((span["name"], span["process"]) for span in result["spans"])


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("prefork", {("warm-up", "main"): 3, ("serve", "child"): 4, ("after", "main"): 1}),
        ("while_a_span_is_being_ended", {("serve", "child"): 2, ("after", "main"): 1}),
        (
            "inside_an_inference",
            {("named", "main"): 1, ("after", "main"): 1, ("after", "child"): 1},
        ),
        (
            "from_a_child",
            {("parent", "main"): 1, ("child", "child"): 2, ("grandchild", "child"): 4},
        ),
    ],
)
def test_inferences(results, scenario, expected):
    """Each is recorded and exported once, by the process that it ended in, and none waits."""
    assert expected == spans(results[scenario])


def test_the_export_helper(results):
    """A child's spans go to a helper of its own, and the parent's helper goes on."""
    result = results["through_the_helper"]
    assert (
        0,
        "parent 1\nchild 2\nparent again 1\n['parent']\n['child']\n['parent again']\n",
    ) == (result["code"], result["output"])
