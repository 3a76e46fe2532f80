"""Environments from the built wheel: without torch, with it, and with what the examples import."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

# Tests here share more than fixtures; under pytest's importlib mode no folder is on the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from environments import LOCK, ROOT, Environment, build_wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def new_environment(tmp_path_factory):
    """Makes an empty environment."""

    def make():
        folder = tmp_path_factory.mktemp("environment")
        return Environment(folder / "venv", tmp_path_factory.mktemp("home"))

    return make


@pytest.fixture(scope="session")
def without_torch(new_environment, wheel):
    """`pip install warpspan`, and nothing else."""
    environment = new_environment()
    environment.install("--constraint", LOCK, wheel)
    return environment


@pytest.fixture(scope="session")
def with_torch(new_environment, wheel):
    """`pip install warpspan` beside torch, as most users have it."""
    environment = new_environment()
    environment.install("--constraint", LOCK, wheel, "torch", "numpy")
    return environment


@pytest.fixture(scope="session")
def for_examples(with_torch, wheel):
    """The same environment, from then on with `warpspan[all]` and what the examples import."""
    with_torch.install(
        *("--constraint", LOCK, f"warpspan[all] @ {wheel.as_uri()}"),
        *("--group", f"{ROOT / 'pyproject.toml'}:examples", "diffusers"),
    )
    return with_torch


@pytest.fixture
def here(tmp_path):
    """A folder with the program that the documents call app.py, and the examples."""
    shutil.copy(Path(__file__).parent / "programs" / "app.py", tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path
