"""Virtual environments that are made as a user makes one: from the built wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UV = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
LOCK = ROOT / "requirements.lock"


class Environment:
    """A new virtual environment, and the variables and the folder that commands in it get.

    Args:
        path: where it is made.
        home: the home of the user, where a shell's settings are.
    """

    def __init__(self, path: Path, home: Path) -> None:
        self.path = path
        self.home = home
        subprocess.run(
            [UV, "venv", "--quiet", "--seed", "--python", sys.executable, path], check=True
        )

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.path / "bin" / "python"

    def install(self, *arguments: str | Path) -> None:
        """Install by uv, with its cache by hard links."""
        subprocess.run(
            [UV, "pip", "install", "--quiet", "--python", self.python, *arguments], check=True
        )

    def environ(self, **more: str) -> dict[str, str]:
        """Nothing of the environment that the tests run in, and nothing of OpenTelemetry."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OTEL_", "PYTHON", "VIRTUAL_ENV", "UV_", "COV", "CUDA_"))
        }
        return {
            **kept,
            "PATH": f"{self.path / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "HF_HUB_OFFLINE": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            **more,
        }

    def run(
        self, *command: str | Path, cwd: Path, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of it; `environ` in the options is added to its variables."""
        return subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=self.environ(**options.pop("environ", {})),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            **options,
        )


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout, built as for the package index."""
    subprocess.run([UV, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel
