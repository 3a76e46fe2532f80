"""The command line itself: versions, help and what is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import warpspan
from warpspan.cli.app import app

MAIN = "from warpspan.cli import main; main()"


def command(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line, after a statement in the same interpreter."""
    return subprocess.run(
        [sys.executable, "-c", f"{before}\n{MAIN}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_version():
    """`--version` prints the version alone."""
    done = command("--version")
    assert (0, f"warpspan {warpspan.__version__}\n") == (done.returncode, done.stdout)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option):
    """Help lists the commands."""
    done = CliRunner().invoke(app, [option])
    assert 0 == done.exit_code
    assert {"run", "report", "bench"} <= set(done.stdout.replace("│", " ").split())


def test_unknown_command():
    """A wrong command is wrong usage."""
    done = CliRunner().invoke(app, ["reprot"])
    assert 2 == done.exit_code
    assert "No such command 'reprot'" in done.stderr


@pytest.mark.parametrize("module", ["rich", "typer", "opentelemetry.sdk"])
def test_missing_package(module):
    """Installed without its dependencies, one sentence says what to install."""
    done = command("report", "x", before=f"import sys; sys.modules[{module!r}] = None")
    assert 2 == done.returncode
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"warpspan: the command line needs {module}")
    assert sentence.endswith(": pip install warpspan")


@pytest.mark.parametrize(
    "module", ["opentelemetry.distro", "opentelemetry.exporter.otlp.json.file"]
)
def test_missing_part_of_run(module):
    """What the program needs is looked for before it starts."""
    done = command("run", "true", before=f"import sys; sys.modules[{module!r}] = None")
    assert (2, f"warpspan: `warpspan run` needs {module}: pip install warpspan\n") == (
        done.returncode,
        done.stderr,
    )


def test_as_a_module():
    """`python -m warpspan` is the command, under its own name."""
    done = subprocess.run(
        [sys.executable, "-m", "warpspan", "report", "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert 0 == done.returncode, done.stderr
    assert "Usage: warpspan report" in done.stdout


def test_shell_completion():
    """A shell that asks gets commands and options."""
    asked = "import os; os.environ.update(_WARPSPAN_COMPLETE='complete_bash', COMP_WORDS={words!r}, COMP_CWORD='1')"
    assert ["report", "run"] == sorted(
        command(before=asked.format(words="warpspan r")).stdout.split()
    )
    assert ["--install-completion"] == (
        command(before=asked.format(words="warpspan --ins")).stdout.split()
    )
