"""Forks and the end of a process: one registration with Python, and those that take part.

A part of the package that keeps threads, locks or handles joins with what it does before a fork,
afterwards in the parent, in the child, and at the end. Bound methods are held weakly, so that a
part takes part for as long as it lives. `os`, `multiprocessing` and `threading` can't forget what
was registered with them: they know the functions of this module alone, once in a process.

A program in C, such as uWSGI, may fork without Python's hooks. In such a child `mark[0]` is 0
until `catch_up` was called: the kernel empties that page at every fork, so that a look at it costs
a tenth of what the process id does, which takes a system call (about 30 ns and 200 ns).
"""

from __future__ import annotations

import atexit
import ctypes
import enum
import itertools
import mmap
import multiprocessing.process
import multiprocessing.util
import os
import threading
import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any, Protocol

from warpspan import guard

_MADV_WIPEONFORK = 18  # of Linux since 4.14; Python has no name for it
# Nobody holds it for longer than the child's part takes, unless a fork came between.
_CATCH_UP_WAIT_S = 1.0


class _Moment(enum.Enum):
    BEFORE = enum.auto()
    IN_PARENT = enum.auto()
    IN_CHILD = enum.auto()
    AT_EXIT = enum.auto()
    AT_CHILD_EXIT = enum.auto()


class Participant:
    """What one part of the package does around forks.

    Args:
        calls: what it calls at which moment.
    """

    __slots__ = ("_calls", "_number")

    def __init__(self, calls: dict[_Moment, Callable[[], None] | None]) -> None:
        self._number = next(_numbers)
        self._calls: dict[_Moment, Callable[[], Callable[[], None] | None]] = {}
        for moment, call in calls.items():
            if call is not None:
                self._calls[moment] = self._reference(call)

    def leave(self) -> None:
        """Take part no longer."""
        _participants.pop(self._number, None)

    def _reference(self, call: Callable[[], None]) -> Callable[[], Callable[[], None] | None]:
        if not isinstance(call, MethodType):
            return lambda: call
        participants, number = _participants, self._number

        def died(_: object) -> None:
            participant = participants.get(number)
            if participant is not None and not participant._lives():
                participants.pop(number, None)

        owner, function = weakref.ref(call.__self__, died), call.__func__

        def find() -> Callable[[], None] | None:
            found = owner()
            return None if found is None else MethodType(function, found)

        return find

    def _lives(self) -> bool:
        return any(find() is not None for find in self._calls.values())

    def _call(self, moment: _Moment) -> None:
        reference = self._calls.get(moment)
        call = None if reference is None else reference()
        if call is not None:
            try:
                call()
            except Exception as error:  # the others have their turn
                guard.caught("fork", error)


class Mark(Protocol):
    """Whether this process has done what is due in a child: its item 0 is true."""

    def __getitem__(self, index: int, /) -> Any: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class _ProcessId:
    """The mark where no page is emptied by a fork."""

    def __init__(self) -> None:
        self._pid = 0

    def __getitem__(self, index: int, /) -> bool:
        return self._pid == os.getpid()

    def __setitem__(self, index: int, value: int, /) -> None:
        self._pid = os.getpid()


def _make_mark() -> Mark:
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (AttributeError, OSError, TypeError, ValueError):  # not Linux, or an old one
        return _ProcessId()
    return page


_numbers = itertools.count()
# In the order in which they joined. Single operations on a dict need no lock, which a fork, a
# signal handler or a finalizer could meet taken.
_participants: dict[int, Participant] = {}
_catching_up = threading.RLock()
_pid = os.getpid()

#: Item 0 is 0 in a child that has not done its part: then call `catch_up`.
mark = _make_mark()
mark[0] = 1


def join(
    *,
    before: Callable[[], None] | None = None,
    in_parent: Callable[[], None] | None = None,
    in_child: Callable[[], None] | None = None,
    at_exit: Callable[[], None] | None = None,
    at_child_exit: Callable[[], None] | None = None,
) -> Participant:
    """Take part in forks, for as long as the objects of these methods live.

    Args:
        before: called before a fork; those that joined last go first, as with `os`.
        in_parent: called after it in the parent.
        in_child: called after it in the child, in the order of joining.
        at_exit: called when the process ends, before any other exit handler.
        at_child_exit: called at the end of a child of `multiprocessing`, which runs no exit
            handlers before Python 3.13, and later runs them first.
    """
    participant = Participant(
        {
            _Moment.BEFORE: before,
            _Moment.IN_PARENT: in_parent,
            _Moment.IN_CHILD: in_child,
            _Moment.AT_EXIT: at_exit,
            _Moment.AT_CHILD_EXIT: at_child_exit,
        }
    )
    _participants[participant._number] = participant
    return participant


def check() -> None:
    """Catch up where that is due. Callers that are in a hurry look at `mark` themselves."""
    if not mark[0]:
        catch_up()


def catch_up() -> None:
    """Do what is due in a child that was forked without Python's hooks; once, by one thread."""
    taken = _catching_up.acquire(timeout=_CATCH_UP_WAIT_S)
    try:
        if _pid != os.getpid():
            _in_child()
    finally:
        if taken:
            _catching_up.release()


def keep(*inherited: object) -> None:
    """Keep what a child has from its parent, for as long as the child lives and beyond its exit.

    A CUDA event can't be destroyed in a child of a process that used CUDA: torch aborts the child.
    """
    for thing in inherited:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _in_child() -> None:
    global _pid
    _pid = os.getpid()  # first: a signal handler may come to catch up meanwhile
    guard.faults.clear()
    try:
        _run(_Moment.IN_CHILD)
    finally:
        mark[0] = 1


def _before() -> None:
    for participant in reversed(list(_participants.values())):
        participant._call(_Moment.BEFORE)


def _in_parent() -> None:
    _run(_Moment.IN_PARENT)


def _at_exit() -> None:
    check()
    _run(_Moment.AT_EXIT)


def _finalize_child(_: object = None) -> None:
    multiprocessing.util.Finalize(None, _run, args=(_Moment.AT_CHILD_EXIT,), exitpriority=10)


def _run(moment: _Moment) -> None:
    for participant in list(_participants.values()):
        participant._call(moment)


def _register() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
    # A child of multiprocessing forgets the finalizers that it inherits, and then calls these.
    multiprocessing.util.register_after_fork(_finalize_child, _finalize_child)
    if multiprocessing.process.parent_process() is not None:  # this is such a child already
        _finalize_child()
    # Exit handlers run last in, first out, and a provider registers its own when it is made, which
    # may be after us. Those of the threading module run before all others: from there ours becomes
    # the last one registered.
    try:
        threading._register_atexit(atexit.register, _at_exit)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):  # not CPython, or already at the end
        atexit.register(_at_exit)


_register()
