"""Under `opentelemetry-instrument`, programs that were not changed."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest

from warpspan import environment_variables

LAUNCHER = Path(sys.executable).parent / "opentelemetry-instrument"
PREFIX = "OTEL_PYTHON_WARPSPAN_"
KNOWN = [name for name in vars(environment_variables) if name.startswith(PREFIX)]

pytestmark = pytest.mark.skipif(
    not LAUNCHER.exists() or not metadata.entry_points(name="warpspan"),
    reason="warpspan and opentelemetry-distro are not both installed",
)


@pytest.fixture
def instrumented(program):
    """Runs a program under the launcher; spans go to its standard output."""

    def run(name, code=0, **environment):
        environment = {
            "OTEL_TRACES_EXPORTER": "console",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            **environment,
        }
        return program(name, launcher=[str(LAUNCHER)], code=code, **environment)

    return run


def parts(output):
    """The program's own lines, and the JSON values that the console exporter printed."""
    decoder, lines, values = json.JSONDecoder(), [], []
    while output:
        if output.startswith("{"):
            value, end = decoder.raw_decode(output)
            values.append(value)
            output = output[end:].lstrip("\n")
        else:
            line, _, output = output.partition("\n")
            lines.append(line)
    return lines, values


def test_an_unchanged_program(instrumented):
    """Its output and exit code are its own, and its inference is a span at its end."""
    done = instrumented("plain.py", code=5)
    lines, (span,) = parts(done.stdout)
    assert (["(2, 4)"], "") == (lines, done.stderr)
    attributes = span["attributes"]
    measured = {
        "pytorch.host.cpu.time",
        "pytorch.host.gc.count",
        "pytorch.host.gc.time",
        "pytorch.host.memory.rss",
    }
    assert all(attributes.pop(name) >= 0 for name in measured)
    assert {
        "pytorch.operation.name": "forward",
        "pytorch.model.name": "Sequential",
        "pytorch.model.parameter.count": 20,
        "pytorch.model.parameter.size": 80,
        "pytorch.model.dtype": "float32",
        "pytorch.model.compiled": False,
        "pytorch.model.device.count": 1,
        "pytorch.device.type": "cpu",
        "pytorch.input.batch.size": 2,
        "pytorch.input.shape": [2, 4],
        "pytorch.inference.concurrency": 1,
    } == attributes
    assert ("forward Sequential", "SpanKind.INTERNAL", None, {"status_code": "UNSET"}) == (
        span["name"],
        span["kind"],
        span["parent_id"],
        span["status"],
    )


def test_wrong_values_of_every_variable(instrumented):
    """One warning each: the variable, the value and what is allowed. The program runs."""
    pytest.importorskip("opentelemetry.exporter.otlp.json.file")
    done = instrumented(
        "plain.py",
        code=5,
        OTEL_TRACES_EXPORTER="warpspan_file",
        OTEL_METRICS_EXPORTER="warpspan_file",
        OTEL_PYTHON_WARPSPAN_FILE="/nowhere/at/all.jsonl",
        OTEL_PYTHON_WARPSPAN_TRAINING="maybe",
        OTEL_PYTHON_WARPSPAN_PARAMETERLESS="2",
        OTEL_PYTHON_WARPSPAN_MEMORY="much",
        OTEL_PYTHON_WARPSPAN_QUEUE_SIZE="3",
        OTEL_PYTHON_WARPSPAN_FLUSH_TIMEOUT="soon",
        OTEL_PYTHON_WARPSPAN_SAMPLE_PERIOD="0.01",
        OTEL_PYTHON_WARPSPAN_HARDWARE_METRICS="sometimes",
        OTEL_PYTHON_WARPSPAN_STEPS="some",
        OTEL_PYTHON_WARPSPAN_TRANSFERS="often",
        OTEL_PYTHON_WARPSPAN_SPEED="full",
    )
    assert "(2, 4)\n" == done.stdout
    assert [
        f"{PREFIX}FILE='/nowhere/at/all.jsonl' can't be written (No such file or directory): "
        "give the path of a file in an existing folder. Nothing is recorded.",
        f"{PREFIX}FLUSH_TIMEOUT='soon' is not valid: give seconds from 0 to 3600. "
        "Using the default, 5.0.",
        f"{PREFIX}HARDWARE_METRICS='sometimes' is not valid: give auto, on or off. "
        "Using the default, 'auto'.",
        f"{PREFIX}MEMORY='much' is not valid: give true or false. Using the default, True.",
        f"{PREFIX}PARAMETERLESS='2' is not valid: give true or false. Using the default, False.",
        f"{PREFIX}QUEUE_SIZE='3' is not valid: give a whole number from 16 to 1000000. "
        "Using the default, 4096.",
        f"{PREFIX}SAMPLE_PERIOD='0.01' is not valid: give seconds from 0.1 to 10, or 0 for none. "
        "Using the default, 0.2.",
        f"{PREFIX}STEPS='some' is not valid: give summary, events or spans. "
        "Using the default, 'summary'.",
        f"{PREFIX}TRAINING='maybe' is not valid: give true or false. Using the default, False.",
        f"{PREFIX}TRANSFERS='often' is not valid: give true or false. Using the default, True.",
        f"Unknown variable {PREFIX}SPEED is ignored. Known: {', '.join(sorted(KNOWN))}.",
    ] == sorted(done.stderr.splitlines())


def test_variables_take_effect(instrumented):
    """A model that is excluded by a variable is not recorded."""
    done = instrumented("plain.py", code=5, OTEL_PYTHON_WARPSPAN_EXCLUDED_MODELS="Seq*, Other")
    assert ("(2, 4)\n", "") == (done.stdout, done.stderr)


def test_a_forked_worker_imports_torch(instrumented):
    """The parent never does: it pays nothing, and the worker's inference is exported."""
    done = instrumented("late_import.py", PYTHONWARNINGS="ignore::DeprecationWarning")
    lines, (span,) = parts(done.stdout)
    assert ([], "", "forward Linear") == (lines, done.stderr, span["name"])
