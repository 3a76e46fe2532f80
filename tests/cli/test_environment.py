"""The environment that `warpspan run` gives to a program."""

from __future__ import annotations

import os
from pathlib import Path

import opentelemetry.instrumentation.auto_instrumentation as hook
import pytest

from warpspan.cli.environment import environment, reasons, service_name

HOOK = str(Path(hook.__file__).parent)
HERE = str(Path.cwd())


def of(base: dict[str, str], *, explicit: bool = False) -> dict[str, str]:
    return environment(base, ["python", "app.py"], Path("/data/out.jsonl"), explicit=explicit)


def test_plain():
    """An environment without OpenTelemetry in it gets all that a run needs."""
    assert {
        "HOME": "/home/ann",
        "PYTHONPATH": f"{HOOK}{os.pathsep}{HERE}",
        "OTEL_PYTHON_WARPSPAN_FILE": "/data/out.jsonl",
        "OTEL_SERVICE_NAME": "app",
        "OTEL_TRACES_EXPORTER": "warpspan_file",
        "OTEL_METRICS_EXPORTER": "warpspan_file",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "1000",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "128",
        "OTEL_BSP_MAX_QUEUE_SIZE": "16384",
        "OTEL_METRIC_EXPORT_INTERVAL": "10000",
    } == of({"HOME": "/home/ann"})


def test_what_the_user_set_is_kept():
    """Each OTEL_* variable that has a value keeps it."""
    base = {
        "OTEL_SERVICE_NAME": "reranker",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
        "OTEL_TRACES_SAMPLER": "always_off",
    }
    assert base == {name: of(base)[name] for name in base}


def test_a_batch_never_exceeds_the_queue():
    """The SDK refuses such a pair, so that with one of the two chosen we set neither."""
    made = of({"OTEL_BSP_MAX_QUEUE_SIZE": "64"})
    assert {"OTEL_BSP_MAX_QUEUE_SIZE": "64", "OTEL_BSP_SCHEDULE_DELAY": "1000"} == {
        name: value for name, value in made.items() if name.startswith("OTEL_BSP")
    }


def test_relative_file(tmp_path, monkeypatch):
    """A program that changes its directory still writes to the same file."""
    monkeypatch.chdir(tmp_path)
    made = environment({}, ["python"], Path("out.jsonl"), explicit=False)
    assert str(tmp_path / "out.jsonl") == made["OTEL_PYTHON_WARPSPAN_FILE"]


@pytest.mark.parametrize(
    ("chosen", "default", "explicit"),
    [
        ("", "warpspan_file", "warpspan_file"),
        ("otlp", "otlp,warpspan_file", "otlp,warpspan_file"),
        ("otlp, console", "otlp,console,warpspan_file", "otlp,console,warpspan_file"),
        ("warpspan_file", "warpspan_file", "warpspan_file"),
        ("none", "none", "warpspan_file"),
    ],
)
def test_exporters(chosen, default, explicit):
    """Chosen exporters work beside the file; `none` gives way only where the file was named."""
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"):
        assert default == of({name: chosen})[name]
        assert explicit == of({name: chosen}, explicit=True)[name]


def test_service_name_among_resource_attributes():
    """A name given as resource attribute is not overruled."""
    made = of({"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=a,service.name=reranker"})
    assert "OTEL_SERVICE_NAME" not in made


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("/lib/a:/lib/b", [HOOK, HERE, "/lib/a", "/lib/b"]),
        (f"/lib/a:{HERE}", [HOOK, "/lib/a", HERE]),
        (f"/lib/a:{HOOK}", [HOOK, HERE, "/lib/a"]),
    ],
)
def test_python_path(chosen, expected):
    """As `opentelemetry-instrument` sets it: its hook first, the working directory, the rest."""
    assert expected == of({"PYTHONPATH": chosen})["PYTHONPATH"].split(os.pathsep)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python app.py --port 80", "app"),
        ("/usr/bin/python3.11 -u -X dev -W error src/serve.py", "serve"),
        ("python -m uvicorn app:app", "uvicorn"),
        ("python -X dev -m pkg.serve", "pkg.serve"),
        ("python -c pass", "python"),
        ("python -", "python"),
        ("python", "python"),
        ("python -m", "python"),
        ("uvicorn app:app", "uvicorn"),
        ("./serve.sh", "serve"),
        ("pythonic x.py", "pythonic"),
    ],
)
def test_service_name(command, expected):
    """The service is called after the script, else the module, else the program."""
    assert expected == service_name(command.split())


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ({}, []),
        (
            {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi, warpspan"},
            ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS turns warpspan off."],
        ),
        (
            {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*", "OTEL_SDK_DISABLED": "True"},
            [
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS turns warpspan off.",
                "OTEL_SDK_DISABLED turns OpenTelemetry off.",
            ],
        ),
        (
            {"OTEL_CONFIG_FILE": "otel.yaml"},
            ["OTEL_CONFIG_FILE is set: its exporters are used instead of the file."],
        ),
        (
            {"OTEL_TRACES_EXPORTER": "none", "OTEL_TRACES_SAMPLER": "parentbased_always_off"},
            [
                "OTEL_TRACES_EXPORTER is none: name a file with -o to record spans.",
                "OTEL_TRACES_SAMPLER drops every span that has no sampled parent.",
            ],
        ),
        ({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "warpspanner"}, []),
    ],
)
def test_reasons(base, expected):
    """What certainly keeps inferences from being recorded is told, nothing else."""
    assert expected == reasons(base)
