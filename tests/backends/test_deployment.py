"""compose.yaml and k8s/: what can be told of them without Docker and Kubernetes."""

from __future__ import annotations

import re

import binaries
import pytest
import yaml
from stores import CONFIG

#: Image: the build of the tests that is of the same version.
IMAGES = {
    "otel/opentelemetry-collector-contrib": "0.158.0",
    "jaegertracing/jaeger": "2.13.0",
    "grafana/tempo": "2.8.0",
    "prom/prometheus": "v3.13.5",
    "grafana/grafana": "12.2.0",
}
FILES = [CONFIG / "compose.yaml", *sorted((CONFIG / "k8s").glob("*.yaml"))]


def documents(file):
    return [one for one in yaml.safe_load_all(file.read_text(encoding="utf-8")) if one]


def test_images_are_of_the_versions_that_are_tested():
    """Jaeger 1.76 is 2.13, and Prometheus' module counts 0.313 for 3.13."""
    versions = {build.name: build.version.removeprefix("v") for build in binaries.BUILDS}
    assert versions["collector"] == IMAGES["otel/opentelemetry-collector-contrib"]
    minor, patch = versions["jaeger"].split(".")[1:]
    assert f"2.{int(minor) - 63}.{patch}" == IMAGES["jaegertracing/jaeger"]
    minor, patch = versions["prometheus"].split(".")[1:]
    assert f"v{int(minor) // 100}.{int(minor) % 100}.{patch}" == IMAGES["prom/prometheus"]
    found = {
        image
        for file in FILES
        for image in re.findall(r"(?m)^\s+image: (\S+)$", file.read_text(encoding="utf-8"))
    }
    assert {f"{name}:{version}" for name, version in IMAGES.items()} == found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_variables_are_read_by_a_shipped_file(file):
    """A name that nothing reads would be a setting without effect."""
    read = {
        name
        for one in CONFIG.rglob("*.yaml")
        if one not in FILES or one.name == "agent-dns.yaml"
        for name in re.findall(r"\$\{?(?:env:)?(WARPSPAN_\w+)", one.read_text(encoding="utf-8"))
    }
    assert set() == set(re.findall(r"WARPSPAN_\w+", file.read_text(encoding="utf-8"))) - read


def test_mounted_files_exist():
    """Each file that compose.yaml mounts is in this repository."""
    services = documents(CONFIG / "compose.yaml")[0]["services"].values()
    mounts = [mount for one in services for mount in one["volumes"] if mount.startswith("./")]
    assert [] == [mount for mount in mounts if not (CONFIG / mount.split(":")[0]).exists()]


def test_nothing_is_published_beyond_loopback():
    """Every port of compose.yaml is the machine's own."""
    services = documents(CONFIG / "compose.yaml")[0]["services"].values()
    ports = [port for one in services for port in one.get("ports", ())]
    assert set() == {port for port in ports if not port.startswith("127.0.0.1:")}
    assert ports


def test_kubernetes_files_are_what_they_say():
    """Kinds, and that the agent's memory limit lies above its own."""
    kinds = [one["kind"] for file in FILES[1:] for one in documents(file) if "kind" in one]
    assert ["DaemonSet", "Service", "StatefulSet", "Instrumentation"] == kinds
    for name, prefix in (("agent", "AGENT"), ("gateway", "GATEWAY")):
        (workload,) = (
            one
            for one in documents(CONFIG / "k8s" / f"{name}.yaml")
            if one["kind"] in ("DaemonSet", "StatefulSet")
        )
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        environment = {one["name"]: one.get("value") for one in container["env"]}
        limit = container["resources"]["limits"]["memory"]
        mib = int(limit[:-2]) * {"Mi": 1, "Gi": 1024}[limit[-2:]]
        own = environment.get(f"WARPSPAN_{prefix}_MEMORY_MIB", "2048")
        assert int(own) < mib
