"""Grafana's dashboard of what a Loopline serves, built by Grafana's own foundation SDK: `python dashboard.py > loopline.json`."""

from __future__ import annotations

from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh

SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
CHOSEN = 'endpoint=~"$endpoint"'
BY_VERSION = "endpoint, variant, version"


def per_second(name: str, by: str, chosen: str = CHOSEN) -> str:
    """The rate of a counter, summed."""
    return f"sum by ({by}) (rate({name}{{{chosen}}}[$__rate_interval]))"


def quantile(q: float, name: str, by: str) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({q}, {per_second(name + '_bucket', by + ', le')})"


def lines(title: str, unit: str, about: str, *queries: tuple[str, str]) -> TimeSeries:
    """A panel over time, of (expression, legend)."""
    panel = TimeSeries().title(title).description(about).unit(unit).min(0).datasource(SOURCE).span(12).height(8)
    panel.legend(
        VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True)
    )
    for expression, legend in queries:
        panel.with_target(Dataquery().datasource(SOURCE).expr(expression).legend_format(legend))
    return panel


def number(title: str, unit: str, about: str, expression: str) -> Stat:
    """A panel with one number."""
    query = Dataquery().datasource(SOURCE).expr(expression).instant()
    return Stat().title(title).description(about).unit(unit).datasource(SOURCE).span(4).height(4).with_target(query)


def dashboard() -> Dashboard:
    """The whole dashboard."""
    failed = per_second("loopline_requests_total", "endpoint", f'{CHOSEN}, status=~"5.."')
    version = "{{endpoint}} {{variant}} @{{version}}"
    return (
        Dashboard("Loopline: serving")
        .uid("loopline-serving")
        .tags(["loopline"])
        .refresh("30s")
        .time("now-3h", "now")
        .with_variable(DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .with_variable(
            QueryVariable("endpoint")
            .label("Endpoint")
            .datasource(SOURCE)
            .query("label_values(loopline_requests_total, endpoint)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .all_value(".*")
            .multi(True)
        )
        .with_row(Row("Now"))
        .with_panel(number("Workers", "short", "Processes that answer.", "sum(loopline_workers)"))
        .with_panel(number("In flight", "short", "Requests being answered.", "sum(loopline_in_flight)"))
        .with_panel(number("Waiting", "short", "Batches that wait for slow models.", "sum(loopline_waiting_batches)"))
        .with_panel(number("Routing table", "short", "Epoch in force.", "max(loopline_route_epoch)"))
        .with_panel(
            number(
                "Log", "Bps", "Written to the prediction log.", "sum(rate(loopline_log_bytes_total[$__rate_interval]))"
            )
        )
        .with_panel(number("Log errors", "short", "In the last hour.", "sum(increase(loopline_log_errors_total[1h]))"))
        .with_row(Row("Requests"))
        .with_panel(
            lines(
                "Requests",
                "reqps",
                "Answered, by model version.",
                (per_second("loopline_requests_total", BY_VERSION), version),
            )
        )
        .with_panel(
            lines(
                "Rows", "rowsps", "Scored, by model version.", (per_second("loopline_rows_total", BY_VERSION), version)
            )
        )
        .with_panel(
            lines(
                "Time to answer",
                "s",
                "From a request's last byte to its answer.",
                *(
                    (quantile(q, "loopline_request_seconds", "endpoint"), f"{{{{endpoint}}}} p{100 * q:g}")
                    for q in (0.5, 0.9, 0.99)
                ),
            )
        )
        .with_panel(
            lines(
                "Time in models",
                "percentunit",
                "Of one core, by model version.",
                (per_second("loopline_model_seconds_total", BY_VERSION), version),
            )
        )
        .with_panel(
            lines(
                "Rows of a batch",
                "short",
                "What one run of a model scores, in the middle and at the most.",
                (quantile(0.5, "loopline_batch_rows", "endpoint"), "{{endpoint}} p50"),
                (quantile(0.99, "loopline_batch_rows", "endpoint"), "{{endpoint}} p99"),
            )
        )
        .with_panel(
            lines("Batches", "ops", "Runs of a model.", (per_second("loopline_batches_total", BY_VERSION), version))
        )
        .with_row(Row("What goes wrong"))
        .with_panel(
            lines(
                "Errors",
                "reqps",
                "Refused or failed, by code.",
                (per_second("loopline_errors_total", "endpoint, code"), "{{endpoint}} {{code}}"),
            )
        )
        .with_panel(
            lines(
                "Failing",
                "percentunit",
                "Of the requests, with 5xx.",
                (f"{failed} / {per_second('loopline_requests_total', 'endpoint')}", "{{endpoint}}"),
            )
        )
        .with_panel(
            lines(
                "Unknown categories",
                "cps",
                "Values that training never saw.",
                (per_second("loopline_unknown_categories_total", "endpoint, column"), "{{endpoint}} {{column}}"),
            )
        )
        .with_panel(
            lines(
                "Shadows",
                "reqps",
                "Copies, by what came of them.",
                (
                    per_second("loopline_shadow_total", "endpoint, variant, result"),
                    "{{endpoint}} {{variant}} {{result}}",
                ),
            )
        )
        .with_panel(
            lines(
                "Outputs that are not finite",
                "rowsps",
                "By model version.",
                (per_second("loopline_invalid_outputs_total", BY_VERSION), version),
            )
        )
    )


if __name__ == "__main__":
    print(JSONEncoder(sort_keys=True, indent=2).encode(dashboard().build()))
