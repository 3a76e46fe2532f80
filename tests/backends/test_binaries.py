"""Where the backends come from: the lock decides, and what is missing is told in one sentence."""

from __future__ import annotations

import re
import subprocess
import sys

import binaries
import pytest


@pytest.fixture
def path(monkeypatch, tmp_path):
    """A PATH with nothing in it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "USUAL_GO", str(tmp_path))
    return tmp_path


def test_the_key_changes_with_the_lock(monkeypatch, tmp_path):
    """Another lock is another folder: nothing old is taken for new."""
    build = binaries.Build("one", "example.com/one", "v1", {"one": ""})
    (tmp_path / "one").mkdir()
    lock = tmp_path / "one" / "go.sum"
    monkeypatch.setattr(binaries, "LOCKS", tmp_path)
    keys = []
    for text in ("a", "b", "a"):
        lock.write_text(text, encoding="utf-8")
        keys.append(binaries.key(build))
    assert keys[0] == keys[2] != keys[1]
    assert binaries.key(build._replace(tags="small")) not in keys


def test_without_go_one_sentence_says_what_to_do(path):
    """Where it is from, and which version."""
    with pytest.raises(binaries.BuildError, match=r"Go 1\.26 or newer .* install it from"):
        binaries.find_go()


def test_an_old_go_is_refused(path):
    """Better than the compiler's hundred errors."""
    go = path / "go"
    go.write_text("#!/bin/sh\necho go version go1.21.3 linux/amd64\n", encoding="utf-8")
    go.chmod(0o755)
    with pytest.raises(binaries.BuildError, match=r"this is go1\.21\.3"):
        binaries.find_go()


def test_locks_have_the_versions_of_the_list():
    """Raised in one place: `--lock` was run after the list was changed."""
    for build in binaries.BUILDS:
        text = (binaries.LOCKS / build.name / "go.mod").read_text(encoding="utf-8")
        if build.module:
            assert re.search(rf"{re.escape(build.module)} {re.escape(build.version)}\b", text)
    components = (binaries.LOCKS / "collector/builder.yaml").read_text(encoding="utf-8")
    stable = {"v1.64.0"}  # of the collector's own stable modules that go with v0.158.0
    assert {binaries.COLLECTOR} | stable == set(re.findall(r"gomod: \S+ (\S+)", components))


def test_no_lock_names_a_machine():
    """No path and no proxy of the machine that resolved it."""
    for lock in binaries.LOCKS.glob("*/*"):
        assert not re.search(r"=> (?:/|\.)|https?://", lock.read_text(encoding="utf-8")), lock


def test_the_command_needs_nothing_of_the_environment():
    """It runs with a bare Python, before any environment is made."""
    command = [sys.executable, "-I", "-S", binaries.__file__, "--paths"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert list(binaries.paths()) == [line.split("\t")[0] for line in done.stdout.splitlines()]


def test_the_estimate_follows_the_machine():
    """At first what is usual, then as fast as it was so far; the program that runs counts."""
    plan = binaries.Plan(["otelcol", "jaeger", "tempo"])
    assert ("1 of 3", "about 17 min left", "about 15 min left") == (
        plan.place,
        plan.left(),
        plan.left(100.0),
    )
    plan.finish(200.0)  # twice as fast as usual
    assert ("2 of 3", "about 5 min left", "about a minute left") == (
        plan.place,
        plan.left(),
        plan.left(250.0),
    )


def test_each_program_has_a_usual_time():
    """None is left out of the estimate."""
    assert set(binaries.USUAL_S) == {name for build in binaries.BUILDS for name in build.programs}
