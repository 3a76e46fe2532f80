"""`warpspan report` on a store: what it asks, what it prints, and what it says where there is nothing."""

import json
import subprocess

import pytest
from typer.testing import CliRunner

from tests.support.served import serving
from warpspan.cli.app import app

TRACE_ID = "0a" * 16
SPAN = {
    "traceId": TRACE_ID,
    "spanId": "01" * 8,
    "name": "forward BertModel",
    "kind": 1,
    "startTimeUnixNano": "1700000000000000000",
    "endTimeUnixNano": "1700000000250000000",
    "attributes": [
        {"key": "pytorch.operation.name", "value": {"stringValue": "forward"}},
        {"key": "pytorch.model.name", "value": {"stringValue": "BertModel"}},
        {"key": "pytorch.device.type", "value": {"stringValue": "cpu"}},
    ],
}


def report(*arguments):
    """Run the command in this process."""
    done = CliRunner().invoke(app, ["report", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def tempo(path, _):
    """A Tempo with one inference."""
    if path == "/api/search":
        found = {"traceID": TRACE_ID, "startTimeUnixNano": SPAN["startTimeUnixNano"]}
        return 200, {"traces": [found]}
    if path != f"/api/v2/traces/{TRACE_ID}":
        return 404, b""
    block = {"resource": {"attributes": []}, "scopeSpans": [{"spans": [SPAN]}]}
    return 200, {"trace": {"resourceSpans": [block]}}


def test_tempo():
    """The table of what the service did in that time; the store is named in the JSON."""
    with serving(tempo) as served:
        done = report("--tempo", served.url, "--since", "15m", "--service", "chat", "--json")
    found = json.loads(done.stdout)
    assert (0, "", served.url) == (done.returncode, done.stderr, found["file"])
    assert ["BertModel"] == [row["model"] for row in found["rows"]]
    (search, _) = served.asked
    assert 15 * 60 + 1 == int(search[1]["end"]) - int(search[1]["start"])
    assert "chat" in search[1]["q"]


def test_one_trace():
    """It is read without a search, with the headers that were given."""
    with serving(tempo) as served:
        done = report(
            "--tempo", served.url, "--trace", TRACE_ID, "--header", "Authorization: Bearer x"
        )
    assert 0 == done.returncode
    assert "forward BertModel" in done.stdout
    assert [(f"/api/v2/traces/{TRACE_ID}", {}, "Bearer x")] == served.asked


def test_nothing_there():
    """What was looked for is said, and what to change."""
    with serving(lambda *_: (200, {"traces": []})) as served:
        done = report("--tempo", served.url, "--service", "chat")
        missing = report("--tempo", served.url, "--trace", "ff")
    assert (
        f"warpspan: {served.url} has no inference of the service chat of the last 1h: choose a "
        "longer --since, or look at the name of the service\n"
    ) == done.stderr
    assert f"warpspan: {served.url} has no inference in a trace ff\n" == missing.stderr
    assert (1, 1) == (done.returncode, missing.returncode)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give a FILE, or --tempo URL, or --jaeger URL"),
        (["--tempo", "http://a", "--jaeger", "http://b"], "give --tempo or --jaeger, not both"),
        (["a.jsonl", "--jaeger", "http://b"], "give FILE or --jaeger, not both"),
        (["a.jsonl", "--since", "1h"], "--since needs --tempo URL or --jaeger URL"),
        (
            ["--tempo", "http://a", "--since", "yesterday"],
            "--since yesterday is no time: give a number with s, m, h or d, such as 15m",
        ),
        (
            ["--tempo", "http://a", "--header", "token"],
            "--header token is no header: give it as 'Name: value'",
        ),
    ],
)
def test_wrong_usage(arguments, said):
    """One sentence, and nothing is asked."""
    done = report(*arguments)
    assert (2, f"warpspan: {said}\n") == (done.returncode, done.stderr)


def test_no_store():
    """An address where nobody answers is one sentence."""
    with serving(tempo) as served:
        url = served.url
    done = report("--jaeger", url)
    assert f"warpspan: {url} did not answer: is the store running there?\n" == done.stderr
    assert 1 == done.returncode
