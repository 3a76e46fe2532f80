"""Every file of collector-config, by the program that reads it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from stores import CONFIG

ROOT = Path(__file__).resolve().parents[2]
COLLECTOR_FILES = [
    ["agent.yaml"],
    ["agent.yaml", "agent-secure.yaml"],
    ["agent.yaml", "k8s/agent-dns.yaml"],
    ["gateway.yaml"],
    ["gateway.yaml", "gateway-secure.yaml"],
    ["all-in-one.yaml"],
    ["import.yaml"],
]
RULE_TESTS = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
#: Of DCGM and the collectors, whose names are theirs.
FOREIGN = re.compile(r"DCGM_FI_\w+|otelcol_\w+|up|ALERTS")
UNITS = {"s": "seconds", "By": "bytes", "J": "joules", "W": "watts", "Cel": "celsius"}


def run(*command, **options):
    """What a program that must succeed said."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120, **options
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("files", COLLECTOR_FILES, ids="+".join)
def test_collector_accepts_its_files(programs, files):
    """With nothing set: every variable has a default, and no name in it is out of date."""
    said = run(
        programs["otelcol"], "validate", *(f"--config={CONFIG / file}" for file in files), env={}
    )
    assert "" == said


def test_prometheus_accepts_its_file(programs):
    """The file, the rules and the targets that it names."""
    said = run(programs["promtool"], "check", "config", CONFIG / "prometheus.yaml")
    assert "is valid prometheus config file syntax" in said
    assert 3 == said.count("rules found")


def test_rules_have_no_lint(programs):
    """Nothing doubled, nothing unknown."""
    rules = sorted((CONFIG / "rules").glob("*.yaml"))
    run(programs["promtool"], "check", "rules", "--lint=all", "--lint-fatal", *rules)


@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda file: file.stem)
def test_rules_say_what_they_should(programs, file):
    """promtool's unit tests: fires, nearly fires, flaps, no data."""
    assert "SUCCESS" in run(programs["promtool"], "test", "rules", file)


def test_every_alert_has_tests_and_a_runbook():
    """One that fires, one that does not, and a paragraph under the name that it links to."""
    groups = yaml.safe_load((CONFIG / "rules/alerts.yaml").read_text(encoding="utf-8"))["groups"]
    alerts = {rule["alert"]: rule for group in groups for rule in group["rules"]}
    tested = {alert: set() for alert in alerts}
    for file in RULE_TESTS:
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            for one in test.get("alert_rule_test", ()):
                tested[one["alertname"]].add(bool(one["exp_alerts"]))
    assert {alert: {True, False} for alert in alerts} == tested
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/alerts.md").read_text("utf-8"), re.M)
    assert list(alerts) == headings
    for alert, rule in alerts.items():
        assert f"docs/alerts.md#{alert.lower()}" == rule["annotations"]["runbook"]


def test_tempo_accepts_its_file(programs, tmp_path):
    """Its own check of a configuration, with the defaults of the variables."""
    command = [programs["tempo"], "-config.verify=true", "-config.expand-env=true"]
    said = run(*command, f"-config.file={CONFIG / 'tempo.yaml'}", env={"HOME": str(tmp_path)})
    assert "failed" not in said


def test_jaeger_accepts_its_file(programs):
    """Its own check of a configuration, with the defaults of the variables."""
    run(programs["jaeger"], "validate", f"--config={CONFIG / 'jaeger.yaml'}", env={})


def prometheus_names():
    """The series that each metric of signals.yaml becomes, on the way that is shipped."""
    registry = yaml.safe_load((ROOT / "src/warpspan/signals.yaml").read_text(encoding="utf-8"))
    names = set()
    for metric in (group for group in registry["groups"] if group["type"] == "metric"):
        base = metric["metric_name"].replace(".", "_")
        unit = UNITS.get(metric["unit"])
        if unit and unit not in base.split("_"):
            base += f"_{unit}"
        if metric["unit"] == "1" and metric["instrument"] == "gauge":
            base += "_ratio"
        if metric["instrument"] == "counter":
            base += "_total"
        names.add(base)
        if metric["instrument"] == "histogram":
            names |= {f"{base}_{part}" for part in ("bucket", "count", "sum")}
    return names


def test_rules_ask_for_series_that_exist():
    """Every name in a rule is a metric of signals.yaml, DCGM's, a collector's or another rule's."""
    known, recorded = prometheus_names(), set()
    expressions = []
    for file in sorted((CONFIG / "rules").glob("*.yaml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                recorded |= {rule["record"]} if "record" in rule else set()
                expressions.append(rule["expr"])
    asked = {
        name
        for expression in expressions
        for name in re.findall(r"\b(?:hw_|pytorch_|warpspan_)\w+(?=[\[{ )]|$)", bare(expression))
    }
    assert set() == {name for name in asked if name not in known and not FOREIGN.fullmatch(name)}
    levels = {
        name
        for expression in expressions
        for name in re.findall(r"\b\w+:\w+:\w+\b", bare(expression))
    }
    assert levels <= recorded


def bare(expression):
    """A query without its label lists and matchers."""
    expression = re.sub(r"\{[^}]*\}", "", expression)
    return re.sub(r"\b(?:by|on|group_left|group_right|without)\s*\([^)]*\)", "", expression)
