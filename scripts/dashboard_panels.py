"""What dashboards are made of: kinds of panels, variables, and what many queries share."""

from __future__ import annotations

from typing import NamedTuple

# What the variables on top of a dashboard choose.
F = 'k8s_cluster_name=~"$cluster",k8s_namespace_name=~"$namespace"'
S = f'{F},service_name=~"$service"'
M = f'{S},pytorch_model_name=~"$model"'
G = 'hw_id=~"$gpu"'
SPAN = 'resource.service.name =~ "$service" && span.pytorch.model.name =~ "$model"'
BY_MODEL = "{{service_name}} {{pytorch_model_name}} {{pytorch_operation_name}}"
OF_MODEL = "{{service_name}} {{pytorch_model_name}}"
_COUNT = "pytorch_inference_duration_seconds_count"


class Variable(NamedTuple):
    """A filter on top of a page, whose values Prometheus knows."""

    label: str
    query: str
    #: What stands for all values; `.*` also matches series without the label.
    everything: str = ".+"


class Price(NamedTuple):
    """A number that the reader types."""

    label: str
    default: str
    description: str


VARIABLES = {
    "cluster": Variable("Cluster", f"label_values({_COUNT}, k8s_cluster_name)", ".*"),
    "namespace": Variable(
        "Namespace",
        f'label_values({_COUNT}{{k8s_cluster_name=~"$cluster"}}, k8s_namespace_name)',
        ".*",
    ),
    "service": Variable("Service", f"label_values({_COUNT}{{{F}}}, service_name)"),
    "model": Variable("Model", f"label_values({_COUNT}{{{S}}}, pytorch_model_name)"),
    "gpu": Variable("GPU", "label_values(hw_id:gpu_utilization:ratio5m, hw_id)"),
    "price": Price("Price of a GPU-hour", "1", "In your currency; costs on this page are in it."),
}
FILTERS = ("cluster", "namespace", "service", "model")


class Graph(NamedTuple):
    """Series of Prometheus over time: (query, legend) each."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str = ""
    exemplars: bool = False


class Stat(NamedTuple):
    """One number of Prometheus now, with its course behind it."""

    title: str
    unit: str
    query: str
    description: str = ""
    #: Values from which it is yellow and red.
    limits: tuple[float, float] | None = None


class Tiles(NamedTuple):
    """Numbers side by side."""

    stats: tuple[Stat, ...]


class Heatmap(NamedTuple):
    """How often the values of a histogram were in which range, over time."""

    title: str
    unit: str
    metric: str
    description: str = ""


class Row(NamedTuple):
    """The title of what follows."""

    title: str


class Note(NamedTuple):
    """Markdown that says what to look at."""

    title: str
    text: str


class Traces(NamedTuple):
    """Spans of Tempo that match a TraceQL query, a row each with a link to its trace."""

    title: str
    query: str
    description: str = ""


class Page(NamedTuple):
    """A dashboard."""

    name: str
    title: str
    variables: tuple[str, ...]
    panels: tuple[Graph | Heatmap | Note | Row | Tiles | Traces, ...]


def each(metric: str, unit: str, title: str, description: str = "") -> Graph:
    """Half of the inferences of a model are below the first line, 99 % below the second one."""
    return Graph(
        title,
        unit,
        (quantile(0.5, metric), quantile(0.99, metric)),
        description,
        exemplars=True,
    )


def quantile(
    share: float, metric: str, by: str = "pytorch_model_name", of: str = M
) -> tuple[str, str]:
    """A percentile of a histogram for each value of a label, and its legend."""
    rate = f"sum by (le, {by}) (rate({metric}_bucket{{{of}}}[5m]))"
    return f"histogram_quantile({share}, {rate})", f"{{{{{by}}}}} p{share * 100:.0f}"


def dcgm(expression: str) -> str:
    """A series of DCGM with our name of the GPU."""
    return f'label_replace({expression}, "hw_id", "$1", "UUID", "(.+)")'
