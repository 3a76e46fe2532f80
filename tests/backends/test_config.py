"""Every file of collector-config, by the program that reads it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import metric_names
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
KINDS = {"fires", "quiet", "flaps", "no data"}
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((CONFIG / "rules/alerts.yaml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
}
#: Of DCGM and the collectors, whose names are theirs.
FOREIGN = re.compile(r"DCGM_FI_\w+|otelcol_\w+|up|ALERTS")


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
    assert 4 == said.count("rules found")


def test_rules_have_no_lint(programs):
    """Nothing doubled, nothing unknown."""
    rules = sorted((CONFIG / "rules").glob("*.yaml"))
    run(programs["promtool"], "check", "rules", "--lint=all", "--lint-fatal", *rules)


@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda file: file.stem)
def test_rules_say_what_they_should(programs, file):
    """promtool's unit tests."""
    assert "SUCCESS" in run(programs["promtool"], "test", "rules", file)


def alert_tests():
    """Each unit test of an alert: the alert, the test's kind, its series, whether it fires."""
    for file in RULE_TESTS:
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            series = {one["series"]: str(one["values"]) for one in test.get("input_series", ())}
            for one in test.get("alert_rule_test", ()):
                kind = test["name"].partition(":")[0]
                yield one["alertname"], kind, series, bool(one["exp_alerts"])


def test_every_alert_has_tests_of_all_kinds():
    """Fires, near miss, flaps, no data; and each test has what makes it one of its kind."""
    asked, tested = {}, {alert: set() for alert in ALERTS}
    for alert, kind, series, fired in alert_tests():
        if kind == "fires":
            asked.setdefault(alert, set()).update(names(series))
        if fired or kind != "fires":
            tested[alert].add(kind)
    assert dict.fromkeys(ALERTS, KINDS) == tested
    for alert, kind, series, fired in alert_tests():
        if kind in ("quiet", "no data"):
            assert not fired, (alert, series)
        if kind == "flaps":
            assert any(values.count(" ") >= 3 for values in series.values()), (alert, series)
        if kind == "no data":
            ends = any("stale" in values for values in series.values())
            assert ends or not asked[alert] <= names(series), (alert, series)


def names(series):
    """Their names, without labels."""
    return {one.partition("{")[0] for one in series}


def test_every_alert_has_a_runbook():
    """A paragraph under the name that it links to: what it means, which query, what helps."""
    text = (ROOT / "docs/alerts.md").read_text(encoding="utf-8")
    runbooks = dict(re.findall(r"^### (\w+)$(.*?)(?=^##|\Z)", text, re.M | re.S))
    assert list(ALERTS) == list(runbooks)
    for alert, runbook in runbooks.items():
        assert f"docs/alerts.md#{alert.lower()}" == ALERTS[alert]["annotations"]["runbook"]
        meaning, following, helps = re.split(r"^(?=Next|Usually helps: )", runbook, flags=re.M)
        assert meaning.strip(), alert
        assert "`" in following, alert
        assert helps.startswith("Usually helps: "), alert


def test_tempo_accepts_its_file(programs, tmp_path):
    """Its own check of a configuration, with the defaults of the variables."""
    command = [programs["tempo"], "-config.verify=true", "-config.expand-env=true"]
    said = run(*command, f"-config.file={CONFIG / 'tempo.yaml'}", env={"HOME": str(tmp_path)})
    assert "failed" not in said


def test_jaeger_accepts_its_file(programs):
    """Its own check of a configuration, with the defaults of the variables."""
    run(programs["jaeger"], "validate", f"--config={CONFIG / 'jaeger.yaml'}", env={})


def test_rules_ask_for_series_that_exist():
    """Every name in a rule is a metric of signals.yaml, DCGM's, a collector's or another rule's."""
    known, recorded = set(metric_names.types()) | set(metric_names.series()), set()
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
