"""The lower bounds of pyproject.toml are true: what they allow works.

Not among the recipes: it resolves anew, so that it needs a package index.
"""

from __future__ import annotations

import json
import re

import pytest
from environments import LOCK, ROOT

from tests.support.otlp import grpc_receiver, http_receiver

PYPROJECT = ROOT / "pyproject.toml"


@pytest.fixture(scope="session")
def lowest(new_environment, wheel):
    """Each dependency of ours in its lowest version, and the torch of the lock file."""
    environment = new_environment()
    environment.install("--resolution", "lowest-direct", "--requirements", PYPROJECT)
    environment.install("--no-deps", wheel)
    environment.install("--constraint", LOCK, "torch", "numpy")
    return environment


VERSIONS = r"""
import json, re
from importlib.metadata import requires, version
bounds = [re.fullmatch(r"([\w-]+)>=([\w.]+)", one) for one in requires("warpspan") if ";" not in one]
print(json.dumps([(one[1], one[2], version(one[1])) for one in bounds]))
"""


def test_versions(lowest, here):
    """What is installed are the bounds, so that all of this tests what it says."""
    found = json.loads(lowest.run("python", "-c", VERSIONS, cwd=here).stdout)
    assert 12 == len(found)
    # 1.44 and 1.44.0 are one version.
    assert [] == [one for one in found if not re.fullmatch(re.escape(one[1]) + r"(\.0)*", one[2])]


@pytest.mark.parametrize("distro", ["", "warpspan"])
@pytest.mark.parametrize("receiver", [grpc_receiver, http_receiver])
def test_export(lowest, here, distro, receiver):
    """Inferences arrive by both protocols, from the process and from the helper."""
    chosen = {"OTEL_PYTHON_DISTRO": distro} if distro else {}
    with receiver() as backend:
        done = lowest.run(
            *("opentelemetry-instrument", "python", "app.py"),
            cwd=here,
            environ={**backend.environ, **chosen},
        )
        assert (0, "done\n") == (done.returncode, done.stdout), done.stderr
        assert ["forward Classifier"] * 3 == backend.span_names()
        assert backend.got("metrics")


def test_run_report_and_doctor(lowest, here):
    """The file is written and read, and the check finds nothing wrong."""
    done = lowest.run("warpspan", "run", "-o", "out.jsonl", "--", "python", "app.py", cwd=here)
    assert (0, "done\n") == (done.returncode, done.stdout), done.stderr
    (row,) = json.loads(lowest.run("warpspan", "report", "out.jsonl", "--json", cwd=here).stdout)[
        "rows"
    ]
    assert ("forward", "Classifier", 3) == (row["operation"], row["model"], row["inference_count"])
    doctor = lowest.run("warpspan", "doctor", cwd=here)
    assert 0 == doctor.returncode, doctor.stdout


@pytest.mark.parametrize("arguments", ["--help", "run --help", "bench fused --help", "top --once"])
def test_command_line(lowest, here, arguments):
    """Help is shown, whichever typer shows it."""
    done = lowest.run("warpspan", *arguments.split(), cwd=here)
    assert 0 == done.returncode, done.stderr
    assert "Traceback" not in done.stderr


def test_driver(lowest, here):
    """The oldest binding has all the names of NVML that are asked for."""
    done = lowest.run("python", "-c", "import warpspan.device.nvml", cwd=here)
    assert (0, "") == (done.returncode, done.stderr)
