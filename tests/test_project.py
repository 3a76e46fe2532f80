"""The package as it is installed, and the rules of its house that a linter can't hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

import pytest

import warpspan
from tests.support.house import Package

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PACKAGES = [Package(ROOT / "src" / "warpspan"), Package(ROOT / "benchmarks")]
ROOT_MODULES_MAX = 9
LINES_MAX = 400
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")

# The configuration; the commands that make a child's environment and that try the official
# exporters, which read it themselves; the exporters' own settings;
# Triton's own switches, which it reads when a kernel is defined.
READ_THE_ENVIRONMENT = {
    "config.py",
    "cli/doctor_export.py",
    "cli/profile.py",
    "cli/run.py",
    "export/distro.py",
    "export/file.py",
    "export/helper.py",
    "export/otlp.py",
    "kernels/bench/fused_cli.py",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that users install, built from this checkout."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*command, "--directory", folder], cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        yield archive


def test_public_names_are_exported():
    """`__all__` is what a user sees: every name in it is there, and nothing public is missing."""
    public = {
        name
        for name, value in vars(warpspan).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("warpspan")
    }
    assert [] == [name for name in warpspan.__all__ if not hasattr(warpspan, name)]
    assert set() == public - set(warpspan.__all__)


def test_import_is_light():
    """Importing warpspan and its instrumentor loads neither torch nor the SDK."""
    program = (
        "import sys, warpspan, warpspan.instrumentor\n"
        "print(sorted({'torch', 'opentelemetry.sdk', 'rich', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ("[]\n", 0) == (done.stdout, done.returncode), done.stderr


def test_the_command_line_starts_without_torch():
    """`warpspan run` must start at once, and with one thread: it waits for signals."""
    program = "import sys, warpspan.cli.app; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ("set()\n", 0) == (done.stdout, done.returncode), done.stderr


def test_files_are_short():
    """No file has more than 400 lines, but the names that are made from registry.yaml."""
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for folder in ("src", "tests", "benchmarks", "scripts", "examples")
        for path in (ROOT / folder).rglob("*.py")
        if path.parent.name != "signals" or folder != "src"
    }
    assert {} == {path: lines for path, lines in lengths.items() if lines > LINES_MAX}


def test_the_root_of_the_package_is_small():
    """What a reader sees first is a list of rooms."""
    modules = sorted(path.name for path in (ROOT / "src" / "warpspan").glob("*.py"))
    assert len(modules) <= ROOT_MODULES_MAX, modules


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_no_import_goes_in_a_circle(package):
    """Not even one that is made for types or inside a function."""
    assert [] == package.circles()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_rooms_keep_private_names_to_themselves(package):
    """A room uses what others offer, not what they keep."""
    assert [] == package.private_accesses()


HOUSE = {
    "__init__.py": "from house.api import call",
    "api.py": "import typing\nif typing.TYPE_CHECKING:\n    from house.low import one",
    "low/__init__.py": "from . import one",
    "low/one.py": "import torch\ndef _secret():\n    from ..high import Kept",
    "low/two.py": "from house.low import one\none._secret()\ntorch._C",
    "high/__init__.py": "class Kept:\n    def __init__(self):\n        self._mine = 1",
    "high/user.py": "from house.low.one import _secret\nfrom house.low import one as x\nx._secret",
    "top.py": "import house.high.user\ndef f(kept):\n    kept._mine\n    kept._replace()",
}


def test_the_rules_of_the_house_find_what_breaks_them(tmp_path):
    """Circles by any kind of import, private names of modules and of objects."""
    for name, source in HOUSE.items():
        path = tmp_path / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    assert (
        [],
        [
            "house.high.user: house.low.one._secret",
            "house.high.user: house.low.one._secret",
            "house.top: kept._mine of house.high",
        ],
    ) == (Package(tmp_path / "house").circles(), Package(tmp_path / "house").private_accesses())
    (tmp_path / "house" / "high" / "__init__.py").write_text("def f():\n    import house.low.two")
    assert [["house.high", "house.low.one", "house.low.two"]] == (
        Package(tmp_path / "house").circles()
    )


def test_one_place_reads_the_environment():
    """`os.environ` is read where settings are made, and nowhere else."""

    def names(node):
        if isinstance(node, ast.Attribute):
            return {node.attr}
        return {name.name for name in node.names} if isinstance(node, ast.ImportFrom) else set()

    readers = {
        path.relative_to(ROOT / "src" / "warpspan").as_posix()
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if names(node) & {"environ", "environb", "getenv"}
    }
    assert set() == readers - READ_THE_ENVIRONMENT


def test_wheel_is_complete(wheel):
    """The wheel has every source file, what the page is made of, the type marker and the license."""
    shipped = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "warpspan").rglob("*")
        if path.is_file()
        and path.suffix in {".py", ".yaml", ".typed", ".html", ".css", ".js", ".txt"}
    } | {"warpspan/py.typed"}
    packed = {name for name in wheel.namelist() if name.startswith("warpspan/")}
    assert shipped == packed
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


@pytest.fixture(scope="module")
def metadata_of_wheel(wheel):
    """What PyPI shows and installers read."""
    name = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    return HeaderParser().parsestr(wheel.read(name).decode())


def test_the_install_has_all_but_what_is_heavy(metadata_of_wheel):
    """`pip install warpspan` brings OpenTelemetry, NVML's binding and the tables; no torch."""
    requirements = metadata_of_wheel.get_all("Requires-Dist")
    needed = {
        re.match(r"[\w.-]+", requirement)[0]
        for requirement in requirements
        if "extra ==" not in requirement
    }
    assert {
        "nvidia-ml-py",
        "opentelemetry-api",
        "opentelemetry-distro",
        "opentelemetry-exporter-otlp",
        "opentelemetry-exporter-otlp-json-file",
        "opentelemetry-instrumentation",
        "opentelemetry-sdk",
        "protobuf",
        "requests",
        "rich",
        "typer",
        "wrapt",
    } == needed
    assert ["all", "bench", "instruments"] == sorted(metadata_of_wheel.get_all("Provides-Extra"))
    assert warpspan.__version__ == metadata_of_wheel["Version"]


def test_the_page_on_the_package_index(metadata_of_wheel):
    """It names its authors and addresses, and no link of the README is relative."""
    assert "warpspan authors" == metadata_of_wheel["Author"]
    repository = "https://github.com/warpspan/warpspan"
    assert [
        f"Homepage, {repository}",
        f"Documentation, {repository}/tree/main/docs",
        f"Changelog, {repository}/blob/main/CHANGELOG.md",
        f"Issues, {repository}/issues",
    ] == metadata_of_wheel.get_all("Project-URL")
    page = metadata_of_wheel.get_payload()
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert [] == [link for link in links if not link.startswith("https://")]
    assert f"{repository}/blob/main/docs/signals.md" in links
    images = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page)
    assert ["https://raw.githubusercontent.com/warpspan/warpspan/main/docs/images/jaeger.png"] == (
        images
    )


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("console_scripts", "warpspan"),
        ("opentelemetry_environment_variables", "warpspan"),
        ("opentelemetry_instrumentor", "warpspan"),
    ],
)
def test_entry_points_load(group, name):
    """What OpenTelemetry and the shell look up is there."""
    (entry,) = metadata.entry_points(group=group, name=name)
    assert entry.load() is not None


def test_lock_pins_every_version_and_names_no_host():
    """Each line of requirements.lock is one exact version; no address or path is in it."""
    lines = [line for line in LOCK.splitlines() if not line.lstrip().startswith("#")]
    pin = re.compile(r"[a-z0-9.-]+==[^ ;]+( ; [^;/]+)?")
    assert [] == [line for line in lines if not pin.fullmatch(line)]
    assert "/" not in LOCK


def test_make_help_lists_every_target():
    """`make` alone explains each target that there is."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.findall(r"^\.PHONY: (\S+)", makefile, re.M) == re.findall(
        r"^  make (\S+) ", done.stdout, re.M
    )


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (
            "",
            "A Python from 3.10 to 3.14 is needed and was not found on PATH or among pyenv's "
            "versions: install one, or name it with PYTHON=/path/to/python3.\n",
        ),
        ("3.10", "Python 3.10 was not found on PATH or among pyenv's versions.\n"),
        ("/bin/sh", "/bin/sh is not a Python from 3.10 to 3.14.\n"),
    ],
)
def test_no_python_is_one_sentence(tmp_path, wanted, sentence):
    """Without a Python that fits, the scripts say so and stop."""
    done = subprocess.run(
        ["/bin/sh", ROOT / "scripts" / "find_python.sh", wanted],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ("", sentence, 1) == (done.stdout, done.stderr, done.returncode)


def test_gpu_check_names_what_a_python_lacks():
    """A Python without the packages gets their names and where they come from."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "scripts" / "gpu_check.py"],
        capture_output=True,
        text=True,
    )
    assert 2 == done.returncode
    assert "lacks torch, pytest," in done.stderr
    assert "make gpu-packages" in done.stderr
