"""The command line itself: versions, help and what is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import warpspan

MAIN = "from warpspan.cli import main; main()"


def command(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line, after a statement in the same interpreter."""
    return subprocess.run(
        [sys.executable, "-c", f"{before}\n{MAIN}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_version():
    """`--version` prints the version alone."""
    done = command("--version")
    assert (0, f"warpspan {warpspan.__version__}\n") == (done.returncode, done.stdout)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option):
    """Help lists the commands."""
    done = command(option)
    assert 0 == done.returncode
    assert {"run", "report", "bench"} <= set(done.stdout.replace("│", " ").split())


def test_unknown_command():
    """A wrong command is wrong usage."""
    done = command("reprot")
    assert 2 == done.returncode
    assert "No such command 'reprot'" in done.stderr


@pytest.mark.parametrize("module", ["rich", "typer", "opentelemetry.sdk"])
def test_missing_extra(module):
    """Without the extra, one sentence says what to install."""
    done = command("report", "x", before=f"import sys; sys.modules[{module!r}] = None")
    assert 2 == done.returncode
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"warpspan: the command line needs {module}")
    assert sentence.endswith(": pip install 'warpspan[cli]'")


@pytest.mark.parametrize(
    "module", ["opentelemetry.distro", "opentelemetry.exporter.otlp.json.file"]
)
def test_missing_part_of_the_extra(module):
    """What the program needs is looked for before it starts."""
    done = command("run", "true", before=f"import sys; sys.modules[{module!r}] = None")
    assert (2, f"warpspan: `warpspan run` needs {module}: pip install 'warpspan[cli]'\n") == (
        done.returncode,
        done.stderr,
    )
