"""Every panel of every dashboard, on stores with inferences whose numbers are known."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from known import filled
from processes import eventually
from stores import CONFIG

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
DASHBOARDS = sorted((CONFIG / "grafana/dashboards").glob("*.json"))


@pytest.fixture(scope="module")
def stores(programs, start_for_module, tmp_path_factory):
    """Jaeger, Tempo and Prometheus with the known inferences."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    folder = tmp_path_factory.mktemp("known")
    yield from filled(start_for_module, programs, folder, environment)


def targets(**chosen):
    """Each query of each panel, with what its variables stand for by default: everything.

    Args:
        chosen: values of other variables.
    """
    for file in DASHBOARDS:
        made = json.loads(file.read_text(encoding="utf-8"))
        variables = made.get("templating", {}).get("list", ())
        for panel in made["panels"]:
            for target in panel.get("targets", ()):
                query = target.get("expr") or target["query"]
                for one in variables:
                    value = chosen.get(one["name"]) or one.get("allValue") or one["query"]
                    query = query.replace(f"${one['name']}", value)
                yield pytest.param(
                    panel["datasource"]["type"],
                    query,
                    id=f"{file.stem}-{panel['title']}-{target['refId']}",
                )


# What panels show of the known inferences, where that does not hang on how fast they were sent: the
# values of all series, the lowest first.
NUMBERS = {
    "fleet-Failed inferences-A": [2 / 36],
    "fleet-Failed-A": [2 / 36],
    "fleet-Idle GPUs-A": [1],
    "memory-Highest leak score-A": [0.96],
    "inference-Cost of a million generated tokens-A": [1e6 * 18.2 / 1536 / 3600],
    "fleet-GPUs that are idle most of the time-B": [1],
    "fleet-Power-A": [300 + 500],
    "inference-GPU-seconds-A": [0.0075, 0.225, 1.4],
    "inference-GPU-seconds of 1,000 generated tokens-A": [1000 * 18.2 / 1536],
    "memory-KV caches that are alive-A": [1600 * MIB],
    "memory-Their number-A": [3],
    "memory-Their share of the GPU's memory-A": [1600 / (80 * 1024)],
    "memory-Leak score-A": [0.96],
    # A quarter each at 60, 110, 160 and 210 ms: three of them in the bucket from 100 to 250.
    "generation-Time to the first token-A": [0.1 + 0.15 * 0.25 / 0.75],
    "generation-Time to the first token-B": [0.1 + 0.15 * 0.74 / 0.75],
    "generation-Time to the first token, by name on the Hub-A": [0.1 + 0.15 * 0.25 / 0.75],
    "stalls-Bytes per inference-A": [75 * 1536 / 21, 6 * MIB, 267 * MIB / 21],
    "stalls-Share of pageable memory in the copies-A": [
        75 * 1536 / (75 * 1536 + 12 * MIB),
        200 / 267,
    ],
    "stalls-Device idle before an inference-A": [0.01, 0.2, 0.5],
    # 300 W by GPU-seconds, of which the two models on that GPU had 0.15 and 0.45.
    "gpu-Power by model-A": [75, 225, 500],
    "gpu-Memory in use-B": [11264 * MIB, 77824 * MIB],
    "gpu-SM clock-A": [1.5e9, 1.5e9],
}


@pytest.mark.parametrize("panel", NUMBERS)
def test_what_a_panel_shows_is_right(stores, panel):
    """Its numbers, worked out by hand."""
    (query,) = (one.values[1] for one in targets() if one.id == panel)
    expected = pytest.approx(NUMBERS[panel])

    def ask():
        return sorted(stores.prometheus.query(query).values())

    found = eventually(ask, lambda values: values == expected)
    assert expected == found, query


def test_a_filter_leaves_nothing_of_other_clusters(stores):
    """Every query of the inferences on these pages obeys the filters on top."""
    asked = 0
    for target in targets(cluster="elsewhere"):
        store, query = target.values
        if store == "prometheus" and "k8s_cluster_name" in query and "vector(0)" not in query:
            assert {} == stores.prometheus.query(query), query
            asked += 1
    assert asked > 50


@pytest.mark.parametrize(("store", "query"), list(targets()))
def test_every_panel_shows_something(stores, store, query):
    """No typing error in a name, no join that finds no partner."""
    if store == "prometheus":
        assert eventually(lambda: stores.prometheus.query(query)), query
    else:
        assert eventually(lambda: stores.tempo.matches(query)), query


def test_every_recording_rule_gives_a_series(stores):
    """On the same inferences; those of alerts.yaml have their own tests."""
    groups = yaml.safe_load((CONFIG / "rules/recording.yaml").read_text("utf-8"))["groups"]
    names = {rule["record"] for group in groups for rule in group["rules"]}
    recorded = eventually(lambda: names & stores.prometheus.names(), lambda found: found == names)
    assert names == recorded


def test_every_alert_can_be_asked(stores):
    """No rule of the real Prometheus has failed; the seeded inference raises its alert."""
    rules = eventually(
        lambda: stores.prometheus.rules(),
        lambda rules: all(rule["health"] != "unknown" for rule in rules),
    )
    assert {"ok"} == {rule["health"] for rule in rules}
    assert "InferenceOutOfMemory" in eventually(
        stores.prometheus.firing, lambda names: "InferenceOutOfMemory" in names
    )


def test_dashboards_are_what_the_script_makes():
    """The JSON is never edited by hand."""
    pytest.importorskip("grafana_foundation_sdk")
    command = [sys.executable, str(ROOT / "scripts/dashboards.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert 0 == done.returncode, done.stderr


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_page_is_filled_without_gaps(file):
    """No panel lies over another one or leaves a hole, each has a title and a legend of its own."""
    panels = json.loads(file.read_text(encoding="utf-8"))["panels"]
    cells = Counter(
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["w"])
        for y in range(place["h"])
    )
    rows = {y for _, y in cells}
    assert Counter((x, y) for x in range(24) for y in range(len(rows))) == cells
    assert len(panels) == len({panel["title"] for panel in panels})
    graphs = [panel for panel in panels if panel["type"] == "timeseries"]
    assert {True} == {panel["options"]["legend"]["showLegend"] for panel in graphs}
    for panel in graphs:
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(legends) == len(set(legends)), panel["title"]


def test_sources_of_dashboards_are_provisioned():
    """Each panel and each variable names a data source that Grafana is given."""
    file = CONFIG / "grafana/provisioning/datasources/warpspan.yaml"
    given = {one["uid"] for one in yaml.safe_load(file.read_text("utf-8"))["datasources"]}
    asked = {
        uid
        for dashboard in DASHBOARDS
        for uid in re.findall(
            r'"uid": "(warpspan-(?:prometheus|tempo|jaeger))"', dashboard.read_text("utf-8")
        )
    }
    assert {"warpspan-prometheus", "warpspan-tempo"} == asked
    assert asked <= given
