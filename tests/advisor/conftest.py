"""What tests of the advisor share."""

from __future__ import annotations

from tests.sources.conftest import recorded

__all__ = ["recorded"]
