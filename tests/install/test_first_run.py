"""What a new user meets after `pip install warpspan`, in each of the ways that there are."""

from __future__ import annotations

import json

import pytest

from tests.support.otlp import grpc_receiver, http_receiver

INFERENCE = "forward Classifier"
RECEIVERS = {"grpc": grpc_receiver, "http/protobuf": http_receiver}
DISTROS = {"default": {}, "warpspan": {"OTEL_PYTHON_DISTRO": "warpspan"}}
protocols = pytest.mark.parametrize("protocol", RECEIVERS)
distros = pytest.mark.parametrize("distro", DISTROS)


def test_it_runs_from_the_wheel(with_torch, here):
    """None of these tests sees the source tree."""
    done = with_torch.run("python", "-c", "import warpspan; print(warpspan.__file__)", cwd=here)
    assert done.stdout.startswith(str(with_torch.path)), done.stderr


@distros
@protocols
def test_opentelemetry_instrument(with_torch, here, distro, protocol):
    """Spans and metrics of the inferences are with the backend when the program ends."""
    with RECEIVERS[protocol]() as backend:
        done = with_torch.run(
            *("opentelemetry-instrument", "python", "app.py"),
            cwd=here,
            environ={**backend.environ, **DISTROS[distro]},
        )
        assert (0, "done\n", "") == (done.returncode, done.stdout, done.stderr)
        assert [INFERENCE] * 3 == backend.span_names()
        assert backend.got("metrics")


@distros
@protocols
def test_no_backend(with_torch, here, distro, protocol):
    """The program runs as ever; who does not answer is said in lines, not in tracebacks."""
    nobody = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    done = with_torch.run(
        *("opentelemetry-instrument", "python", "app.py"),
        cwd=here,
        environ={**nobody, **DISTROS[distro]},
    )
    assert (0, "done\n") == (done.returncode, done.stdout)
    assert "Traceback" not in done.stderr
    assert "127.0.0.1" in done.stderr or "Failed to export" in done.stderr


def test_run_and_report(with_torch, here):
    """A table at the end, and the commands under it work as they are printed."""
    done = with_torch.run("warpspan", "run", "--", "python", "app.py", cwd=here)
    assert (0, "done\n") == (done.returncode, done.stdout)
    assert "3 inferences in" in done.stderr
    again, jaeger = (
        line.strip().split(maxsplit=1)[1]
        for line in done.stderr.splitlines()
        if line.startswith(("  again ", "  Jaeger "))
    )
    assert INFERENCE in with_torch.run("sh", "-c", again, cwd=here).stdout
    assert 0 == with_torch.run("sh", "-c", jaeger, cwd=here).returncode
    assert "resourceSpans" in json.loads((here / "traces.json").read_text().splitlines()[0])


def test_doctor(with_torch, here):
    """Nothing is broken, and nothing is missing."""
    done = with_torch.run("warpspan", "doctor", "--json", cwd=here)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "not installed" not in done.stdout


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("warpspan --version", 0, "warpspan "),
        ("python -m warpspan run --help", 0, "COMMAND"),
        ("warpspan top --once", 0, "no GPU: "),
        ("warpspan doctor", 1, "torch"),
        ("warpspan report nothing.jsonl", 2, "there is no such file"),
        ("warpspan run -- python -c pass", 0, "no inferences recorded"),
        ("warpspan bench fused", 2, "warpspan bench needs torch"),
        (
            "opentelemetry-instrument --traces_exporter none --metrics_exporter none python -V",
            0,
            "Python",
        ),
    ],
)
def test_without_torch(without_torch, here, command, code, said):
    """What needs no torch works without it, and the rest says what it needs."""
    done = without_torch.run(*command.split(), cwd=here, environ={"OTEL_LOGS_EXPORTER": "none"})
    assert code == done.returncode, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
