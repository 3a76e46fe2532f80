"""Builds the real backends that the tests run against, from Go modules that are pinned here.

    python tests/backends/binaries.py            what is not built yet, one after the other
    python tests/backends/binaries.py --paths    where each program is
    python tests/backends/binaries.py --lock     after a version below was changed: resolve again

Needs Go and this file's neighbours in locks/, nothing of the project's environment. The programs
lie in $WARPSPAN_BACKENDS, by default the user's cache, each under a key made from its lock.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LOCKS = Path(__file__).resolve().parent / "locks"
CACHE = Path(
    os.environ.get("WARPSPAN_BACKENDS")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "warpspan", "backends")
)
GO = (1, 26)  # the oldest that all of these modules build with
USUAL_GO = "/usr/local/go/bin"  # where Go's own installation puts it
# Without inlining the compiler needs a third less time, and the programs are fast enough for tests.
FLAGS = ("-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-gcflags=all=-l")
# Seconds that each takes on two cores without a cache: for the estimate, which follows the machine.
USUAL_S = {"ocb": 10, "otelcol": 400, "jaeger": 340, "tempo": 260, "prometheus": 85, "promtool": 40}
JAEGER_UI = (
    "backends: this Jaeger has its whole API and no web page, which its Go module lacks. For the page: "
    "`docker compose -f collector-config/compose.yaml up`, or https://www.jaegertracing.io/download"
)
SILENCE_S = 20  # between two lines of progress where it is not a terminal


class Build(NamedTuple):
    """One Go module, and the programs that are made of it."""

    name: str
    module: str
    version: str
    programs: dict[str, str]  # the program's name: its package in the module
    tags: str = ""


# Every version, in one place. To raise one: change it, `--lock`, `make test-backends`, and the
# image of the same version in collector-config/compose.yaml and k8s/ (a test compares them).
# The collector's own components are in locks/collector/builder.yaml.
OCB = Build("ocb", "go.opentelemetry.io/collector/cmd/builder", "v0.158.0", {"ocb": ""})
COLLECTOR = "v0.158.0"
BUILDS = [
    OCB,
    # Most service discoveries of Prometheus are a cloud's SDK each; static_config needs none.
    Build("collector", "", COLLECTOR, {"otelcol": ""}, tags="remove_all_sd"),
    Build("jaeger", "github.com/jaegertracing/jaeger", "v1.76.0", {"jaeger": "cmd/jaeger"}),
    # Tempo's releases are no Go module versions; this is a commit after 2.8.0.
    Build(
        "tempo",
        "github.com/grafana/tempo",
        "v1.5.1-0.20250529124718-87c2dc380cec",
        {"tempo": "cmd/tempo"},
    ),
    # Prometheus 3.13.5: its module counts 0.313.
    Build(
        "prometheus",
        "github.com/prometheus/prometheus",
        "v0.313.5",
        {"prometheus": "cmd/prometheus", "promtool": "cmd/promtool"},
        tags="remove_all_sd",
    ),
]


class BuildError(Exception):
    """A build can't be made; the message says why and what to do."""


def key(build: Build) -> str:
    """Changes with all that a build is made from."""
    files = sorted(path for path in (LOCKS / build.name).iterdir() if path.is_file())
    parts = [build.tags.encode(), *(flag.encode() for flag in FLAGS), platform.machine().encode()]
    parts += [part for path in files for part in (path.name.encode(), path.read_bytes())]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def folder(build: Build) -> Path:
    """Where its programs are, or will be."""
    return CACHE / f"{build.name}-{build.version}-{key(build)}"


def paths() -> dict[str, Path]:
    """Every program, built or not. The builder itself is none of them."""
    return {
        program: folder(build) / program
        for build in BUILDS
        if build is not OCB
        for program in build.programs
    }


def missing() -> list[Build]:
    """The builds of which a program is not there yet."""
    return [b for b in BUILDS if not all((folder(b) / program).exists() for program in b.programs)]


def go_version(text: str) -> tuple[int, int]:
    """The version in the output of `go version`."""
    found = re.search(r"go(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def find_go() -> str:
    """The Go toolchain, or one sentence."""
    needed = ".".join(map(str, GO))
    go = shutil.which("go") or shutil.which("go", path=USUAL_GO)
    if go is None:
        raise BuildError(
            f"Go {needed} or newer builds the backends and was not found on PATH: install it from "
            "https://go.dev/dl, then run make backends again."
        )
    found = subprocess.run([go, "version"], capture_output=True, text=True, check=True).stdout
    if go_version(found) < GO:
        raise BuildError(
            f"Go {needed} or newer builds the backends, and this is {found.split()[2]} ({go}): "
            "install a newer one from https://go.dev/dl, then run make backends again."
        )
    return go


def environment() -> dict[str, str]:
    """Only the lock decides what is built; no C compiler is needed."""
    return {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}


def run(command: list[str], where: Path, **more: str) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(
        command, cwd=where, env={**environment(), **more}, capture_output=True, text=True
    )
    if done.returncode:
        raise BuildError(f"`{' '.join(command)}` failed:\n{done.stderr or done.stdout}")
    return done.stdout


class Plan:
    """What is to be built in all, and how long that may still take.

    Args:
        programs: their names, in order.
    """

    def __init__(self, programs: list[str]) -> None:
        self.programs = programs
        self.done = 0
        self.took_s = 0.0

    @property
    def place(self) -> str:
        """Which of how many it is at: `2 of 5`."""
        return f"{self.done + 1} of {len(self.programs)}"

    def finish(self, took_s: float) -> None:
        """One more program is built."""
        self.done += 1
        self.took_s += took_s

    def left(self, running_s: float = 0.0) -> str:
        """How long the rest may take, by how fast this machine was so far."""
        usual_s = [USUAL_S.get(program, 60) for program in self.programs]
        so_far_s = sum(usual_s[: self.done])
        pace = self.took_s / so_far_s if so_far_s else 1.0
        left_s = max(pace * sum(usual_s[self.done :]) - running_s, 0)
        return f"about {left_s / 60:.0f} min left" if left_s >= 90 else "about a minute left"


class Progress:
    """Says what is going on: one changing line on a terminal, a line now and then in a log."""

    def __init__(self, name: str, plan: Plan | None = None) -> None:
        self.name = f"{plan.place} {name}" if plan else name
        self.plan = plan
        self.start = self.last = time.monotonic()
        self.terminal = sys.stderr.isatty()
        self.say("starts; the first time, its modules are fetched")

    def say(self, what: str) -> None:
        """Tell it in any case."""
        self.last = time.monotonic()
        clear = "\r\033[K" if self.terminal else ""
        print(f"{clear}backends: {self.name} {what}", file=sys.stderr, flush=True)

    def packages(self, done: int) -> None:
        """Tell how far the compiler is."""
        now = time.monotonic()
        text = f"{done} packages compiled, {now - self.start:.0f} s"
        if self.plan:
            text += f", {self.plan.left(now - self.start)}"
        if self.terminal:
            print(f"\r\033[Kbackends: {self.name} {text}", end="", file=sys.stderr, flush=True)
        elif now - self.last > SILENCE_S:
            self.say(text)


def compile_program(
    go: str, package: str, target: Path, build: Build, source: Path, plan: Plan
) -> None:
    """`go build`, which names each package when it begins with it."""
    progress = Progress(target.name, plan)
    command = [
        *(go, "build", "-v", "-mod=readonly", *FLAGS, f"-tags={build.tags}"),
        *("-o", str(target), package),
    ]
    compiler = subprocess.Popen(
        command, cwd=source, env=environment(), stderr=subprocess.PIPE, text=True
    )
    words: list[str] = []
    done = 0
    assert compiler.stderr is not None
    for line in compiler.stderr:
        if line.startswith("go: downloading"):
            progress.packages(done)
        elif re.fullmatch(r"[\w.~/@-]+", line.strip()):
            done += 1
            progress.packages(done)
        else:
            words.append(line)
    if compiler.wait():
        raise BuildError(f"{build.name} could not be built:\n{''.join(words)}")
    size = target.stat().st_size / 1e6
    took_s = time.monotonic() - progress.start
    plan.finish(took_s)
    left = f", {plan.left()}" if plan.done < len(plan.programs) else ""
    progress.say(f"built: {size:.0f} MB in {took_s:.0f} s{left}")


def make(go: str, build: Build, plan: Plan) -> None:
    """All programs of a build, and they appear at once when all are ready."""
    target = folder(build)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f".{build.name}-") as temporary:
        source, programs = Path(temporary, "source"), Path(temporary, "programs")
        shutil.copytree(LOCKS / build.name, source)
        programs.mkdir()
        if build.name == "collector":
            generate(source, go)
        for program, package in build.programs.items():
            name = "/".join(part for part in (build.module, package) if part) or "."
            compile_program(go, name, programs / program, build, source, plan)
        shutil.rmtree(target, ignore_errors=True)
        programs.rename(target)


def generate(source: Path, go: str) -> None:
    """The collector's main package, by its builder."""
    builder = folder(OCB) / "ocb"
    more = {"PATH": os.pathsep.join([str(Path(go).parent), os.environ.get("PATH", "")])}
    flags = ["--skip-get-modules", "--skip-compilation"]
    run([str(builder), "--config=builder.yaml", *flags], source, **more)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One process builds at a time; a second one waits and finds all of it done."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("backends: another process builds them; waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_missing() -> None:
    """Build what is not there."""
    if not missing():
        return
    go = find_go()
    with alone():
        builds = missing()
        plan = Plan([program for build in builds for program in build.programs])
        if builds:
            listed = ", ".join(plan.programs)
            print(
                f"backends: {len(plan.programs)} to build ({listed}), {plan.left()}",
                file=sys.stderr,
                flush=True,
            )
        for build in builds:
            make(go, build, plan)


def lock(build: Build, go: str) -> None:
    """Write go.mod and go.sum of a build anew, from the module's own."""
    where = LOCKS / build.name
    where.mkdir(parents=True, exist_ok=True)
    print(f"backends: locking {build.name} {build.version}", file=sys.stderr, flush=True)
    if build.name == "collector":
        lock_collector(where, go)
        return
    # The first time nobody knows the module's checksum yet; from then on go.sum does.
    unknown = {"GONOSUMDB": build.module}
    asked = f"{build.module}@{build.version}"
    module = json.loads(run([go, "mod", "download", "-json", asked], where.parent, **unknown))
    own = json.loads(run([go, "mod", "edit", "-json", module["GoMod"]], where.parent))
    replaced = [
        f"replace {r['Old']['Path']} => {r['New']['Path']} {r['New']['Version']}\n"
        for r in own.get("Replace") or []
    ]
    go_mod = f"module warpspan/backends/{build.name}\n\ngo {own['Go']}\n\n{''.join(replaced)}"
    (where / "go.mod").write_text(go_mod, encoding="utf-8")
    shutil.copyfile(Path(module["Dir"], "go.sum"), where / "go.sum")
    (where / "go.sum").chmod(0o644)
    for package in build.programs.values():
        name = "/".join(part for part in (build.module, package) if part)
        run([go, "get", "-tool", f"{name}@{build.version}"], where, **unknown)


def lock_collector(where: Path, go: str) -> None:
    """Let the builder resolve its components, and keep what it found."""
    with alone():
        if OCB in missing():
            make(go, OCB, Plan(["ocb"]))
    more = {"PATH": os.pathsep.join([str(Path(go).parent), os.environ.get("PATH", "")])}
    with tempfile.TemporaryDirectory() as temporary:
        shutil.copy(where / "builder.yaml", temporary)
        command = [str(folder(OCB) / "ocb"), "--config=builder.yaml", "--skip-compilation"]
        run(command, Path(temporary), **more)
        for name in ("go.mod", "go.sum"):
            shutil.copy(Path(temporary, name), where)


def main() -> int:
    """Build, show or lock."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paths", action="store_true", help="print where the programs are")
    parser.add_argument(
        "--lock", nargs="*", metavar="NAME", help="resolve again: all of them, or those named"
    )
    options = parser.parse_args()
    try:
        if options.paths:
            for program, path in paths().items():
                print(f"{program}\t{path}{'' if path.exists() else '  (not built)'}")
        elif options.lock is not None:
            go = find_go()
            for build in BUILDS:
                if not options.lock or build.name in options.lock:
                    lock(build, go)
        else:
            ready = not missing()
            build_missing()
            print(f"backends: {'all are built' if ready else 'all built'}, in {CACHE}")
            print(JAEGER_UI)
    except BuildError as error:
        print(f"backends: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
