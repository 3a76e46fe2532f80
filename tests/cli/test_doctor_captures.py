"""What `warpspan doctor` says of captures."""

import pytest

from warpspan.cli.doctor_captures import captures
from warpspan.cli.finding import Finding
from warpspan.deep import kineto_source


def test_nothing_is_said_of_what_is_off():
    """Captures are off by default."""
    assert [] == list(captures({}))


@pytest.mark.parametrize("setting", ["DEEP", "DEEP_SIGNAL"])
def test_another_profiler_keeps_them_off(setting):
    """Under nsys captures wait, and the reason names the variable."""
    value = "SIGUSR2" if setting == "DEEP_SIGNAL" else "slow"
    environ = {f"OTEL_PYTHON_WARPSPAN_{setting}": value, "NSYS_PROFILING_SESSION_ID": "7"}
    expected = Finding(
        "warning",
        "captures",
        "Nsight Systems (nsys) profiles this process (NSYS_PROFILING_SESSION_ID is set), and two "
        "profilers break each other: captures wait until it runs without",
    )
    assert [expected] == list(captures(environ))


def test_on_and_kept(monkeypatch):
    """The directory of the traces is named."""
    monkeypatch.setattr(kineto_source, "sees_all_threads", lambda: True)
    environ = {
        "OTEL_PYTHON_WARPSPAN_DEEP": "5/60s",
        "OTEL_PYTHON_WARPSPAN_DEEP_DIRECTORY": "/traces",
    }
    assert [Finding("ok", "captures", "on; traces are kept in /traces")] == list(captures(environ))
