"""Patches are put back, and other people's are left alone."""

from types import SimpleNamespace

import pytest

from warpspan.hooks.patches import Patches


class Base:
    def call(self):
        return "original"


class Child(Base):
    pass


@pytest.fixture
def patches():
    return Patches()


def test_restoring_gives_back_the_identical_object(patches):
    """Identity, not equality: torch compares functions with `is`."""
    original = Base.__dict__["call"]
    patches.apply(Base, "call", lambda self: "ours")
    assert "ours" == Base().call()
    assert [] == patches.restore()
    assert Base.__dict__["call"] is original


def test_an_inherited_attribute_is_removed_again(patches):
    """A patch on a class that only inherits the name leaves no copy behind."""
    patches.apply(Child, "call", lambda self: "ours")
    patches.restore()
    assert "call" not in vars(Child)
    assert "original" == Child().call()


def test_two_patches_of_one_name_come_off_in_reverse(patches):
    """The last one applied is the first one removed."""
    original = Base.__dict__["call"]
    patches.apply(Base, "call", lambda self: "first")
    patches.apply(Base, "call", lambda self: "second")
    patches.restore()
    assert Base.__dict__["call"] is original


def test_a_patch_of_somebody_else_over_ours_stays(patches):
    """Removing it would switch off what we don't know."""
    original = Base.__dict__["call"]
    patches.apply(Base, "call", lambda self: "ours")
    theirs = Base.call = lambda self: "theirs"
    try:
        assert ["Base.call"] == patches.restore()
        assert Base.__dict__["call"] is theirs
    finally:
        Base.call = original


def test_a_name_that_does_not_exist_is_an_error(patches):
    """A surface that a torch version lacks must be noticed by the hook, not invented."""
    with pytest.raises(AttributeError):
        patches.apply(SimpleNamespace(), "missing", None)
