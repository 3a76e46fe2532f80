"""`warpspan report --html` and `--perfetto`: files beside the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.cli.test_compare import otlp, trace
from warpspan.cli.app import app


def report(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["report", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(params=["otlp", "trace"])
def source(request, tmp_path) -> str:
    if request.param == "otlp":
        return otlp(tmp_path / "run.jsonl", 100)
    return trace(tmp_path / "run.json", 300)


def test_files_are_written_beside_the_table(source, tmp_path):
    """And standard error says where they are; the output is as without them."""
    page, timeline = tmp_path / "page.html", tmp_path / "trace.json"
    code, out, err = report(source, "--html", str(page), "--perfetto", str(timeline))
    assert report(source) == (code, out, "")
    assert [
        (f"wrote {page} (", ": open it in a browser"),
        (f"wrote {timeline} (", ": open it in https://ui.perfetto.dev"),
    ] == [(line.split("(")[0] + "(", line[line.rindex("): ") + 1 :]) for line in err.splitlines()]
    assert "<title>" in page.read_text(encoding="utf-8")
    names = [event["name"] for event in json.loads(timeline.read_text())["traceEvents"]]
    assert "forward Net" in names


def test_json_stays_json(source, tmp_path):
    """Nothing else is on standard output."""
    code, out, _ = report(source, "--json", "--html", str(tmp_path / "page.html"))
    assert (0, source) == (code, json.loads(out)["file"])


def test_what_can_not_be_written(source, tmp_path):
    """One sentence, exit code 2, and the file that is read stays as it is."""
    before = Path(source).read_bytes()
    same = str(tmp_path / "a")
    nowhere = str(tmp_path / "none" / "page.html")
    for arguments, said in (
        (("--html", source), f"{source} is the file to read: choose another name to write to"),
        (("--html", same, "--perfetto", same), "--html and --perfetto need two files"),
        (("--html", nowhere), f"can't write {nowhere}: No such file or directory"),
        (("--perfetto", nowhere), f"can't write {nowhere}: No such file or directory"),
    ):
        assert (2, "", f"warpspan: {said}\n") == report(source, *arguments)
    assert before == Path(source).read_bytes()
