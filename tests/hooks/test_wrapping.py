"""Methods of a class and of its subclasses are wrapped and given back; no class is kept alive."""

from __future__ import annotations

import functools
import gc
import weakref
from types import FunctionType

import pytest
from wrapt import wrap_function_wrapper

from warpspan import guard
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.module_call import Switch
from warpspan.hooks.wrapping import Family, host_part


class Wrapped:
    """A family whose method `run` is wrapped, and its ledger."""

    def __init__(self, base):
        guard.forget()
        self.switch = Switch(object())
        self.patches = Patches()
        Family(base, self.patches, self.switch, "test").wrap("run", self.wrap)

    def wrap(self, original):
        return host_part(self.switch, "preprocess")(original)


def make():
    """A class with a subclass that overrides its method."""

    class Base:
        def run(self, value):
            return value

        def other(self):
            return None

    class Child(Base):
        def run(self, value):
            return 10 * super().run(value)

    return Base, Child


def wrapped(*owners):
    """Which of the classes have a wrapped method of their own."""
    methods = [vars(owner).get("run") for owner in owners]
    return [isinstance(one, FunctionType) and hasattr(one, "__wrapped__") for one in methods]


@pytest.fixture
def family():
    """A base, a subclass and what wraps them."""
    base, child = make()
    made = Wrapped(base)
    yield base, child, made
    made.patches.restore()
    assert {} == dict(guard.faults)


def test_overrides(family):
    """Those that exist, and those that come; a class without one has none."""
    base, child, _ = family
    plain = type("Plain", (base,), {})
    later = type("Later", (plain,), {"run": lambda self, value: value})
    assert [True, True, False, True] == wrapped(base, child, plain, later)
    assert [2, 20, 2, 2] == [owner().run(2) for owner in (base, child, plain, later)]


def test_restoring(family):
    """Each class has its own functions again, and classes that come are left alone."""
    base, child, made = family
    original = vars(child)["run"].__wrapped__
    assert [] == made.patches.restore()
    assert vars(child)["run"] is original
    assert "__init_subclass__" not in vars(base)
    assert [False] == wrapped(type("Later", (base,), {"run": lambda self, value: value}))


def test_what_a_class_says_of_its_subclasses():
    """Its own `__init_subclass__` is called as before, with its arguments, and is back afterwards."""
    seen = []

    class Base:
        def __init_subclass__(cls, /, mode=None, **kwargs):
            super().__init_subclass__(**kwargs)
            seen.append((cls.__name__, mode))

        def run(self):
            return 1

    original = vars(Base)["__init_subclass__"]
    made = Wrapped(Base)

    class Child(Base, mode="fast"):
        def run(self):
            return 2

    assert ([("Child", "fast")], [True]) == (seen, wrapped(Child))
    made.patches.restore()
    assert vars(Base)["__init_subclass__"] is original


def test_methods_without_an_object(family):
    """Static and class methods by that name are left alone, and are called as before."""
    base, _, _ = family

    class Static(base):
        @staticmethod
        def run(value):
            return value + 1

    class Class(base):
        @classmethod
        def run(cls, value):
            return cls.__name__, value

    assert [False, False] == wrapped(Static, Class)
    assert (3, 3, ("Class", 2)) == (Static.run(2), Static().run(2), Class.run(2))


def test_classes_are_not_kept_alive(family):
    """200 that are made and dropped are gone."""
    base, _, _ = family
    alive = weakref.WeakSet(
        type("Child", (base,), {"run": lambda self, value: value}) for _ in range(200)
    )
    gc.collect()
    assert 0 == len(alive)


@pytest.mark.parametrize("how", ["functools", "wrapt"])
def test_what_somebody_else_puts_over_ours(family, how):
    """It stays and works, is named, and is wrapped by the next instrumentation."""
    base, child, made = family
    calls = []
    if how == "wrapt":
        wrap_function_wrapper(
            child, "run", lambda run, one, args, kwargs: calls.append(one) or run(*args, **kwargs)
        )
    else:
        ours = child.run
        child.run = functools.wraps(ours)(
            lambda self, value: calls.append(self) or ours(self, value)
        )
    assert ["Child.run"] == made.patches.restore()
    made.switch.tracker = None
    again = Wrapped(base)
    theirs = vars(child)["run"].__wrapped__
    one = child()
    assert (20, [one]) == (one.run(2), calls)
    assert [] == again.patches.restore()
    assert vars(child)["run"] is theirs


def test_a_class_that_does_not_let_itself_be_patched():
    """It is counted, and the others are wrapped."""

    class Meta(type):
        def __setattr__(cls, name, value):
            if cls.__name__ == "Fixed" and name == "run":
                raise TypeError(name)
            super().__setattr__(name, value)

    class Base(metaclass=Meta):
        def run(self, value):
            return value

    class Fixed(Base):
        def run(self, value):
            return -value

    class Child(Base):
        def run(self, value):
            return 10 * value

    made = Wrapped(Base)
    assert [True, False, True] == wrapped(Base, Fixed, Child)
    assert {"test": 1} == dict(guard.faults)
    made.patches.restore()
    guard.forget()
