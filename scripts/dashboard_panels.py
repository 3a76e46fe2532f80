"""What dashboards are made of: kinds of panels, variables, and what many queries share."""

from __future__ import annotations

from typing import NamedTuple

# What the variables on top of a dashboard choose.
M = 'service_name=~"$service",pytorch_model_name=~"$model"'
S = 'service_name=~"$service"'
G = 'hw_id=~"$gpu"'
SPAN = 'resource.service.name =~ "$service" && span.pytorch.model.name =~ "$model"'
BY_MODEL = "{{service_name}} {{pytorch_model_name}} {{pytorch_operation_name}}"
OF_MODEL = "{{service_name}} {{pytorch_model_name}}"
VARIABLES = {
    "service": ("Service", "label_values(pytorch_inference_duration_seconds_count, service_name)"),
    "model": (
        "Model",
        'label_values(pytorch_inference_duration_seconds_count{service_name=~"$service"}, pytorch_model_name)',
    ),
    "gpu": ("GPU", "label_values(hw_id:gpu_utilization:ratio5m, hw_id)"),
}


class Graph(NamedTuple):
    """Series of Prometheus over time: (query, legend) each."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str = ""
    exemplars: bool = False


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
    panels: tuple[Graph | Traces, ...]


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
