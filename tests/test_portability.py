"""Windows, macOS and machines without torch: what must import there, and what says that it can't.

The systems are stood for by this one without the names that they lack.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "warpspan"
MODULES = sorted(
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
# The kernels need Triton, which has no build for these systems, and say so when imported.
KERNELS = {
    name
    for name in MODULES
    if name.startswith(("warpspan.fused", "warpspan.kernels."))
    and not name.startswith("warpspan.kernels.bench")
}

# Rooms and modules that serve without torch.
TORCH_FREE = (
    "warpspan.__main__",
    "warpspan.api",
    "warpspan.cli",
    "warpspan.config",
    "warpspan.emit",
    "warpspan.environment_variables",
    "warpspan.export",
    "warpspan.guard",
    "warpspan.instrumentor",
    "warpspan.records",
    "warpspan.report",
    "warpspan.resource_detector",
    "warpspan.signals",
    "warpspan.sources",
    *(f"warpspan.device.{name}" for name in ("base", "identity", "none", "nvml")),
)

# Loaded before the names go, since their own ports to Windows are not what is tested.
BEFORE = """
import asyncio, ctypes, importlib, json, multiprocessing, os, select, signal, socket, subprocess
import sys, tempfile
import concurrent.futures.process, http.server, logging.handlers, multiprocessing.util
import opentelemetry.distro, opentelemetry.exporter.otlp.json.file.trace_exporter
import opentelemetry.exporter.otlp.proto.http.trace_exporter, grpc, requests
import opentelemetry.instrumentation.auto_instrumentation, pynvml, rich.live, rich.progress, typer
"""
UNIX = """
for name in ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for module, names in {
    os: "O_CLOEXEC O_NOFOLLOW O_NONBLOCK WNOHANG fork forkpty getloadavg getpgid geteuid getuid "
        "killpg mkfifo posix_spawn posix_spawnp register_at_fork sched_getaffinity setsid sysconf "
        "uname waitid",
    select: "poll epoll kqueue",
    signal: "SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1 SIGUSR2 SIGXFSZ SIG_BLOCK "
        "SIG_SETMASK alarm pause pthread_kill pthread_sigmask setitimer sigtimedwait sigwait",
    socket: "AF_UNIX SO_REUSEPORT send_fds recv_fds",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
"""
NO_TORCH = "sys.modules['torch'] = None\n"
IMPORT_ALL = """
failed = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        failed[name] = repr(error)
print(json.dumps(failed))
"""


def run(program, *arguments):
    """What a program printed."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def test_every_module_imports_on_windows():
    """No module needs a name of Unix to be imported."""
    names = [name for name in MODULES if name not in KERNELS]
    assert {} == json.loads(run(f"{BEFORE}import torch\n{UNIX}{IMPORT_ALL}", *names))


@pytest.mark.parametrize("system", ["", UNIX], ids=["linux", "windows"])
def test_what_serves_without_torch(system):
    """The command line, the exporters and the reports import where torch is not installed."""
    names = [name for name in MODULES if name.startswith(TORCH_FREE)]
    assert {} == json.loads(run(f"{BEFORE}{system}{NO_TORCH}{IMPORT_ALL}", *names))


def command(before, *arguments):
    """The command line, after statements that take away what a machine lacks."""
    program = f"{BEFORE}{before}\nfrom warpspan.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_run_says_that_it_needs_posix(tmp_path):
    """One sentence with what works there instead."""
    done = command(UNIX, "run", "-o", str(tmp_path / "out.jsonl"), "--", sys.executable, "-V")
    assert 2 == done.returncode
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(
        f"warpspan: `warpspan run` needs a POSIX system, and this is {sys.platform}: set "
        "OTEL_TRACES_EXPORTER=warpspan_file,"
    )
    assert [] == list(tmp_path.iterdir())


GPU = """
from warpspan.device import discovery, driver
from warpspan.device.driver import Gpu
class Driver(driver.NoDriver):
    problem = None
    def __init__(self):
        super().__init__(None)
    def open(self):
        return True
    def gpus(self):
        return [Gpu("GPU-0", "0000:01:00.0", "NVIDIA H100", 80 << 30)]
discovery.open_driver = Driver
"""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("--version", 0, "warpspan "),
        ("run --help", 0, "COMMAND"),
        ("top --once", 0, "H100"),
        ("doctor", 1, "torch"),
        ("report nothing.jsonl", 2, "there is no such file"),
        ("bench fused", 2, "warpspan bench needs torch"),
    ],
)
def test_commands_without_torch(arguments, code, said):
    """Each works or says what it needs, on Windows with a GPU and without torch."""
    done = command(f"{UNIX}{NO_TORCH}{GPU}", *arguments.split())
    assert code == done.returncode, done.stdout + done.stderr
    assert said in done.stdout + done.stderr


def test_top_without_torch_where_processes_may_tell():
    """A GPU node whose programs run in other environments has no torch beside `top`."""
    done = command(f"{NO_TORCH}{GPU}", "top", "--once", "--json")
    assert 0 == done.returncode, done.stderr
    assert ["NVIDIA H100"] == [device["name"] for device in json.loads(done.stdout)["devices"]]
