"""Write collector-config/grafana/dashboards/*.json with Grafana's own SDK.

Run with --check to compare instead of writing; exits 1 where a file is stale. Every query is run by
tests/backends on the real stores.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import tempo as models
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    SortOrder,
    TableCellHeight,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

from dashboard_details import INFERENCE, MEMORY
from dashboard_overview import FLEET, GPU, MODEL
from dashboard_panels import (
    VARIABLES,
    Graph,
    Heatmap,
    M,
    Note,
    Page,
    Price,
    Row,
    Stat,
    Tiles,
    Traces,
)
from dashboard_stalls import GENERATION, STALLS

ROOT = Path(__file__).resolve().parent.parent
PAGES = (FLEET, MODEL, INFERENCE, MEMORY, GENERATION, STALLS, GPU)
FOLDER = ROOT / "collector-config/grafana/dashboards"
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="warpspan-prometheus")
TEMPO = DataSourceRef(type_val="tempo", uid="warpspan-tempo")


def graph(panel: Graph) -> Any:
    made = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .min(0)
        .datasource(PROMETHEUS)
        .span(12)
        .height(8)
        .fill_opacity(10)
        .legend(
            common.VizLegendOptions()
            .show_legend(show_legend=True)
            .display_mode(LegendDisplayMode.TABLE)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
    )
    for number, (expression, legend) in enumerate(panel.queries):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).range()
        made.with_target(query.ref_id(chr(ord("A") + number)).exemplar(panel.exemplars))
    return made


def heat(panel: Heatmap) -> Any:
    """Buckets over time. The rate of each is what fell into it and not into the one below."""
    expression = f"sum by (le) (rate({panel.metric}_bucket{{{M}}}[5m]))"
    query = prometheus.Dataquery().expr(expression).legend_format("{{le}}").range().ref_id("A")
    return (
        heatmap.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(PROMETHEUS)
        .span(12)
        .height(8)
        .calculate(calculate=False)
        .y_axis(heatmap.YAxisConfig().unit(panel.unit))
        .color(
            heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Turbo").steps(64)
        )
        .with_target(query.format(PromQueryFormat.HEATMAP))
    )


def tile(panel: Stat) -> Any:
    made = (
        stat.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(PROMETHEUS)
        .height(4)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(prometheus.Dataquery().expr(panel.query).range().ref_id("A"))
    )
    if panel.limits is None:
        return made.color_mode(BigValueColorMode.NONE)
    warning, error = panel.limits
    steps = [
        Threshold(color="green"),
        Threshold(value=warning, color="yellow"),
        Threshold(value=error, color="red"),
    ]
    return made.color_mode(BigValueColorMode.VALUE).thresholds(
        dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    )


def note(panel: Note) -> Any:
    made = text.Panel().title(panel.title).mode(TextMode.MARKDOWN).content(panel.text)
    return made.span(24).height(5)


def variable(name: str) -> Any:
    described = VARIABLES[name]
    if isinstance(described, Price):
        return (
            dashboard.TextBoxVariable(name)
            .label(described.label)
            .description(described.description)
            .default_value(described.default)
        )
    return (
        dashboard.QueryVariable(name)
        .label(described.label)
        .datasource(PROMETHEUS)
        .query(described.query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(described.everything)
    )


class Search(models.TempoQuery):
    """A search that gives a row for each span, with the attributes that it selects as columns.

    By default the rows are traces, and those attributes one click away. The SDK's schema is older
    than that choice.
    """

    def to_json(self) -> dict[str, object]:
        """As the schema has it, and the choice."""
        return {**super().to_json(), "tableType": "spans"}

    def build(self) -> Search:
        """Itself: panels ask builders for what they build."""
        return self


def traces(panel: Traces) -> Any:
    query = Search(ref_id="A", query_type="traceql", query=panel.query, limit=20)
    return (
        table.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(TEMPO)
        .span(24)
        .height(8)
        .cell_height(TableCellHeight.SM)
        .with_target(query)
    )


BUILDERS = {Graph: graph, Heatmap: heat, Note: note, Traces: traces}


def built(page: Page) -> str:
    made = (
        dashboard.Dashboard(page.title)
        .uid(f"warpspan-{page.name}")
        .tags(["pytorch", "warpspan"])
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .link(
            dashboard.DashboardLink("PyTorch inference")
            .type("dashboards")
            .tags(["warpspan"])
            .as_dropdown(as_dropdown=True)
            .include_vars(include_vars=True)
            .keep_time(keep_time=True)
        )
    )
    for name in page.variables:
        made.with_variable(variable(name))
    for panel in page.panels:
        if isinstance(panel, Row):
            made.with_row(dashboard.Row(panel.title))
        elif isinstance(panel, Tiles):
            for one in panel.stats:
                made.with_panel(tile(one).span(24 // len(panel.stats)))
        else:
            made.with_panel(BUILDERS[type(panel)](panel))
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main() -> None:
    stale = []
    for page in PAGES:
        file = FOLDER / f"{page.name}.json"
        made = built(page)
        if "--check" not in sys.argv:
            file.write_text(made, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != made:
            stale.append(file.name)
    if stale:
        sys.exit(
            f"{', '.join(stale)} is not what scripts/dashboards.py makes: run `make dashboards`."
        )


if __name__ == "__main__":
    main()
