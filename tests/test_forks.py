"""Forks and the end of a process: who takes part, in which order, and for how long."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from warpspan import forks, guard


class Part:
    """Says what it was called for."""

    def __init__(self, name, said):
        self.name = name
        self.said = said
        moments = ("before", "in_parent", "in_child", "at_exit", "at_child_exit")
        calls = {moment: getattr(self, moment) for moment in moments}
        self.participant = forks.join(**calls)

    def before(self):
        self.said.append(f"{self.name} before")

    def in_parent(self):
        self.said.append(f"{self.name} in the parent")

    def in_child(self):
        self.said.append(f"{self.name} in the child")

    def at_exit(self):
        print(self.name, "at exit")

    def at_child_exit(self):
        print(self.name, "at a child's exit")


@pytest.fixture
def said():
    guard.forget()
    gc.collect()  # what other tests left
    return []


def fork():
    """What a fork does to the process that goes on."""
    forks._before()
    forks._in_parent()


def test_the_order_around_a_fork(said):
    """As with `os`: who joined last is first before it, and who joined first is first after it."""
    parts = [Part("one", said), Part("two", said)]
    fork()
    forks._in_child()
    assert [
        "two before",
        "one before",
        "one in the parent",
        "two in the parent",
        "one in the child",
        "two in the child",
    ] == said
    assert parts


def test_methods_are_held_weakly(said):
    """A part that is gone takes part no longer, and nothing is left of it."""
    before = dict(forks._participants)
    part = Part("one", said)
    assert 1 == len(forks._participants) - len(before)
    del part
    gc.collect()
    fork()
    assert ([], before) == (said, forks._participants)


def test_methods_of_several_objects(said):
    """Each is called for as long as its own object lives."""
    before = dict(forks._participants)
    one, two = Part("one", said), Part("two", said)
    one.participant.leave()
    two.participant.leave()
    forks.join(before=one.before, in_parent=two.in_parent)
    del two
    gc.collect()
    fork()
    assert ["one before"] == said
    del one
    gc.collect()
    fork()
    assert (["one before"], before) == (said, forks._participants)


def test_leaving(said):
    """It takes part no longer, and may leave twice."""
    part = Part("one", said)
    part.participant.leave()
    part.participant.leave()
    fork()
    assert [] == said


def test_functions_stay(said):
    """A function of a module takes part until it leaves."""
    participant = forks.join(before=lambda: said.append("before"))
    gc.collect()
    fork()
    participant.leave()
    fork()
    assert ["before"] == said


def test_a_part_that_fails(said):
    """It is counted, and the others have their turn."""

    class Fails(Part):
        def before(self):
            raise ValueError

    parts = [Part("one", said), Fails("two", said)]
    forks._before()
    assert (["one before"], {"fork": 1}) == (said, dict(guard.faults))
    assert parts
    guard.forget()


def test_the_mark(monkeypatch):
    """It is set in a process that is no unready child; where no page can be wiped, by its pid."""
    assert 1 == forks.mark[0]
    forks.check()
    mark = forks._ProcessId()
    assert not mark[0]
    mark[0] = 1
    assert mark[0]
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert not mark[0]


def test_the_mark_without_pages_to_wipe(monkeypatch):
    """An old kernel, or another system."""
    monkeypatch.setattr(forks, "_MADV_WIPEONFORK", -1)
    assert isinstance(forks._make_mark(), forks._ProcessId)


@pytest.mark.parametrize("wiped", [True, False])
def test_catching_up(said, monkeypatch, wiped):
    """A child that ran no hooks does its part when it is looked at, once; faults are the parent's."""
    part = Part("one", said)
    guard.faults["test"] = 1
    if not wiped:
        monkeypatch.setattr(forks, "mark", forks._ProcessId())
        forks.mark[0] = 1
    pid = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: pid)
    if wiped:
        forks.mark[0] = 0
    forks.check()
    forks.check()
    forks.catch_up()
    monkeypatch.undo()
    forks._pid = os.getpid()
    assert (["one in the child"], {}) == (said, dict(guard.faults))
    assert forks.mark[0]
    assert part


PROGRAM = """
import multiprocessing, os, sys
from warpspan import forks

class Part:
    def __init__(self, name):
        self.name = name
        forks.join(at_exit=self.at_exit, at_child_exit=self.at_child_exit)
    def at_exit(self):
        print(self.name, "at exit", flush=True)
    def at_child_exit(self):
        print(self.name, "at a child's exit", flush=True)

def work():
    parts.append(Part("child's"))

parts = [Part("parent's")]
if __name__ == "__main__":
    import atexit
    atexit.register(print, "others at exit")
    process = multiprocessing.get_context(sys.argv[1]).Process(target=work)
    process.start()
    process.join()
"""


@pytest.mark.parametrize(
    ("method", "end"),
    [("fork", "a child's exit"), ("forkserver", "a child's exit"), ("spawn", "exit")],
)
def test_the_end_of_a_process(tmp_path, method, end):
    """Before other exit handlers; where multiprocessing leaves those out, as a finalizer of its own."""
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", file, method],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    child = f"parent's at {end}\nchild's at {end}\n"
    if method != "spawn" and sys.version_info >= (3, 13):  # these children run exit handlers, too
        child = f"parent's at exit\nchild's at exit\n{child}"
    assert (f"{child}parent's at exit\nothers at exit\n", "", 0) == (
        done.stdout,
        done.stderr,
        done.returncode,
    )
