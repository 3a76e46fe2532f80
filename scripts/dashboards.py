"""Write collector-config/grafana/dashboards/*.json with Grafana's own SDK.

Run with --check to compare instead of writing; exits 1 where a file is stale. Every query is run by
tests/backends on the real stores.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import tempo as models
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    SortOrder,
    TableCellHeight,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

from dashboard_details import GENERATION, INFERENCE, MEMORY, STALLS
from dashboard_overview import FLEET, GPU, MODEL
from dashboard_panels import VARIABLES, Graph, Page, Traces

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
        label, query = VARIABLES[name]
        made.with_variable(
            dashboard.QueryVariable(name)
            .label(label)
            .datasource(PROMETHEUS)
            .query(query)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(multi=True)
            .include_all(include_all=True)
            .all_value(".+")
        )
    for panel in page.panels:
        made.with_panel(graph(panel) if isinstance(panel, Graph) else traces(panel))
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main() -> None:
    stale = []
    for page in PAGES:
        file = FOLDER / f"{page.name}.json"
        text = built(page)
        if "--check" not in sys.argv:
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(file.name)
    if stale:
        sys.exit(
            f"{', '.join(stale)} is not what scripts/dashboards.py makes: run `make dashboards`."
        )


if __name__ == "__main__":
    main()
