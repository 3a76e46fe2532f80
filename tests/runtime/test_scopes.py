"""Scopes: which one is current, and how one is left in turn, out of turn and elsewhere."""

from __future__ import annotations

import contextvars
import threading

import pytest

from warpspan.runtime.scopes import NO_SCOPE, Skipped, current, is_open, leave


@pytest.fixture(autouse=True)
def nothing_open():
    """Each test begins and ends outside of every call."""
    assert current.get() is NO_SCOPE
    yield
    current.set(NO_SCOPE)


def test_no_scope_covers_nothing():
    """Outside of every call the next one is looked at."""
    assert (False, False, None) == (NO_SCOPE.covers, NO_SCOPE.takes_steps, NO_SCOPE.repeated)
    assert not is_open(NO_SCOPE)


def test_a_skipped_call_covers_what_is_inside():
    """It is current from its making to its close, and what it is told of errors is forgotten."""
    scope = Skipped()
    assert (True, True, True) == (scope.covers, scope.is_current, is_open(scope))
    scope.fail(ValueError("private"))
    scope.close()
    assert (False, False, False) == (scope.covers, scope.is_current, is_open(scope))
    assert current.get() is NO_SCOPE


def test_scopes_are_left_in_turn():
    """Each gives way to the one that it is in."""
    outer = Skipped()
    inner = Skipped()
    inner.close()
    assert current.get() is outer
    outer.close()
    assert current.get() is NO_SCOPE


def test_an_outer_scope_that_is_closed_first_stays_behind():
    """It covers nothing, and is left when it is current again."""
    outer = Skipped()
    inner = Skipped()
    outer.close()
    assert current.get() is inner
    inner.close()
    assert (outer, False) == (current.get(), is_open(outer))
    assert leave(outer)
    assert current.get() is NO_SCOPE


def test_a_scope_is_left_once():
    """A second time there is nothing to leave."""
    scope = Skipped()
    assert [True, False] == [leave(scope), leave(scope)]


def test_no_scope_can_not_be_left():
    """Nothing is before it."""
    assert not leave(NO_SCOPE)


def test_a_token_that_is_used_up():
    """A scope that was made current again by hand was entered by somebody else."""
    scope = Skipped()
    scope.close()
    current.set(scope)
    assert not leave(scope)


def test_a_copy_of_the_context_can_not_leave():
    """A task that was created inside holds the scope, which its own context did not enter."""
    scope = Skipped()
    copy = contextvars.copy_context()
    assert [False, scope] == [copy.run(leave, scope), copy.run(current.get)]
    assert leave(scope)
    assert current.get() is NO_SCOPE


def test_a_scope_that_is_closed_in_a_copy_of_the_context():
    """It is left later where it was entered, and covers nothing meanwhile."""
    scope = Skipped()
    contextvars.copy_context().run(scope.close)
    assert (scope, False) == (current.get(), is_open(scope))
    assert leave(scope)


def test_another_thread_is_in_no_scope():
    """It has a context of its own."""
    found = []
    scope = Skipped()
    thread = threading.Thread(target=lambda: found.append(current.get()))
    thread.start()
    thread.join(30)
    scope.close()
    assert [NO_SCOPE] == found


class Scope:
    """A scope in some state."""

    def __init__(self, covers, takes_steps):
        self.covers = covers
        self.takes_steps = takes_steps


@pytest.mark.parametrize(
    ("covers", "takes_steps", "expected"),
    [(True, False, True), (False, True, True), (False, False, False)],
)
def test_open_is_what_covers_or_takes_steps(covers, takes_steps, expected):
    """A scope that was closed does neither."""
    assert expected is is_open(Scope(covers, takes_steps))
