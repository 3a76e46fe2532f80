"""registry.yaml is the one source of names, and records declare each of them once."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from warpspan.records import codec
from warpspan.signals import instruments, names

ROOT = Path(__file__).resolve().parents[2]
yaml = pytest.importorskip("yaml")


def groups():
    return yaml.safe_load((ROOT / "src/warpspan/signals/registry.yaml").read_text())["groups"]


def attributes():
    return [
        attribute
        for group in groups()
        if group["type"] == "attribute_group"
        for attribute in group["attributes"]
    ]


def test_the_constants_and_the_docs_are_what_the_registry_says():
    """The generated modules and docs/signals.md can't drift from registry.yaml."""
    check = subprocess.run(
        [sys.executable, ROOT / "scripts/signals.py", "--check"], capture_output=True, text=True
    )
    assert ("", 0) == (check.stderr, check.returncode)


def described():
    """Type of each attribute that an inference may have, by its name."""
    elsewhere = ("metric", "step.details", "host.gpu", "bench")
    return {
        attribute["id"]: attribute["type"]
        for group in groups()
        if group["type"] == "attribute_group" and not group["id"].endswith(elsewhere)
        for attribute in group["attributes"]
    }


def test_every_span_attribute_of_the_registry_is_in_a_record():
    """A record declares all that a span can carry, with its type, so it can be read back."""
    assert described() == {attribute.name: attribute.type for attribute in codec.attributes}


def test_every_constant_is_used():
    """Names are generated for the package itself: one that nobody uses is a leftover."""
    sources = [
        path.read_text(encoding="utf-8")
        for path in (ROOT / "src/warpspan").rglob("*.py")
        if path.parent.name != "signals"
    ]
    used = set(re.findall(r"\b(?:names|instruments)\.([A-Z0-9_]+)\b", "\n".join(sources)))
    constants = {name for name in (*vars(names), *vars(instruments)) if name.isupper()}
    assert set() == constants - used


def test_no_name_is_also_a_namespace():
    """OpenTelemetry: `a.b` must not be an attribute where `a.b.c` is one; metrics likewise."""
    for ids in (
        [attribute["id"] for attribute in attributes()],
        [group["metric_name"] for group in groups() if group["type"] == "metric"],
    ):
        assert [] == [
            (name, other) for name in ids for other in ids if other.startswith(name + ".")
        ]


def test_counters_do_not_end_in_total_and_units_are_given():
    """The Prometheus exporter adds `_total` itself; every metric says its unit."""
    for group in groups():
        if group["type"] == "metric":
            assert not group["metric_name"].endswith("total")
            assert group["unit"]
