"""However a process ends: what was inferred is exported, and the end is not delayed or changed."""

from __future__ import annotations

import json

import pytest

SPAN = {
    "name": "forward Model",
    "parent": None,
    "error": None,
    "steps": None,
    "process": "main",
}
DURATION = "pytorch.inference.duration"
DROPPED = "warpspan.dropped"


@pytest.fixture(scope="module")
def results(program):
    """What each scenario of exits.py left behind."""
    return json.loads(program("exits.py").stdout)


def counted(result, metric):
    """The last values of a metric, one a set of attributes, in order."""
    # A flush that was given up may write its collection after one that was made later.
    lines = sorted(result["metrics"], key=lambda line: line["time"])
    values = [line["value"] for line in lines if line["metric"] == metric]
    return values[-2:] if metric == DROPPED else values[-1:]


def nothing(code=0):
    return {"code": code, "output": "", "spans": [], "metrics": []}


@pytest.mark.parametrize("scenario", ["without_sdk", "sdk_disabled"])
def test_without_a_working_sdk(results, scenario):
    """Nothing is recorded, printed or waited for, and a flush is done at once."""
    assert nothing() == results[scenario]


@pytest.mark.parametrize("scenario", ["providers_before", "providers_after"])
def test_exit_without_flush(results, scenario):
    """The last inference is exported, by a provider set before or after the first one."""
    result = results[scenario]
    assert (0, "", [SPAN] * 3) == (result["code"], result["output"], result["spans"])
    assert [3] == counted(result, DURATION)


def test_meter_provider_set_last(results):
    """A provider of metrics that came after that of spans gets the last inferences, too."""
    result = results["meter_provider_last"]
    assert (0, "", [SPAN] * 4) == (result["code"], result["output"], result["spans"])
    assert [3] == counted(result, DURATION)


def test_unhandled_exception(results):
    """The host's traceback and exit code; the inference that it left is exported."""
    result = results["unhandled_exception"]
    assert (1, "LookupError: of the host") == (result["code"], result["output"].splitlines()[-1])
    assert [SPAN | {"error": "LookupError"}] == result["spans"]


def test_system_exit_inside_a_forward(results):
    """The host's exit code."""
    result = results["system_exit"]
    assert (3, "") == (result["code"], result["output"])
    assert [SPAN | {"error": "SystemExit"}] == result["spans"]


def test_sigterm_that_nobody_handles(results):
    """The process is gone at once, killed by the signal, also with an inference in flight."""
    assert nothing(-15) == results["sigterm"]


def test_sigterm_with_a_handler_that_exits(results):
    """What ended is exported, and so is the inference that the handler interrupted."""
    result = results["sigterm_handled"]
    assert (7, "") == (result["code"], result["output"])
    assert [SPAN, SPAN | {"error": "SystemExit"}] == result["spans"]


def test_a_thread_that_outlives_the_main_one(results):
    """The interpreter waits for it, and so do we."""
    result = results["thread_goes_on"]
    assert (0, "", [SPAN] * 2) == (result["code"], result["output"], result["spans"])
    assert [2] == counted(result, DURATION)


def test_an_inference_in_an_exit_handler(results):
    """After everything was shut down a model still answers."""
    result = results["inference_at_exit"]
    assert (0, "(2, 4)\n", [SPAN]) == (result["code"], result["output"], result["spans"])


def test_an_exporter_that_hangs(results):
    """200 inferences go on, the flush gives up in time, the drops are counted, the process ends."""
    result = results["exporter_hangs"]
    assert (0, "False\n") == (result["code"], result["output"])
    assert ([1], [184, 16]) == (counted(result, DURATION), counted(result, DROPPED))


def test_a_batch_exporter_that_hangs(results):
    """It costs nothing but its spans: the metrics have all 200 inferences."""
    result = results["batch_exporter_hangs"]
    assert (0, "False\n") == (result["code"], result["output"])
    assert ([200], []) == (counted(result, DURATION), counted(result, DROPPED))


def test_an_exporter_that_hangs_in_the_flush(results):
    """The SDK waits for it for ever; our flush gives up in time."""
    result = results["exporter_hangs_when_flushed"]
    assert (0, "False True\n") == (result["code"], result["output"])
