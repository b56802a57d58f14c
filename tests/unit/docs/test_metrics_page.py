"""The metrics page and the dashboard name the metrics that the code sends, and no others."""

from __future__ import annotations

import json
import re

from airflow_provider_veo import metrics
from tests.unit.docs.test_pages import DOCS

PAGE = (DOCS / "metrics.md").read_text("utf-8")
DASHBOARD = json.loads((DOCS / "grafana-veo.json").read_text("utf-8"))
PROMETHEUS = {f"airflow_{name.replace('.', '_')}" for name in metrics.NAMES}


def queries():
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_the_table_lists_each_metric_once():
    counters = PAGE.partition("## Traces")[0]
    assert sorted(re.findall(r"^\| `(veo\.[a-z_.]+)` \| .* \|$", counters, re.MULTILINE)) == sorted(metrics.NAMES)


def test_the_page_names_the_spans_and_all_outcomes():
    named = set(re.findall(r"`([a-z_.]+)`", PAGE.partition("## Traces")[2]))
    assert {metrics.SUBMIT, metrics.STORE, *metrics.OUTCOMES} <= named


def test_the_dashboard_shows_each_metric_and_no_other():
    named = [name for query in queries() for name in re.findall(r'__name__=~"([^"]+)"', query)]
    assert {name.removesuffix("(_total)?") for name in named} == PROMETHEUS
    assert all(name.endswith("(_total)?") for name in named)


def test_the_alarms_are_about_metrics_that_exist():
    patterns = re.findall(r'__name__=~"([^"]+)"', PAGE)
    assert patterns
    for pattern in (each.replace("\\|", "|") for each in patterns):
        alternatives = re.search(r"\((\w+(?:\|\w+)+)\)", pattern)
        ends = alternatives[1].split("|") if alternatives else [""]
        names = [pattern.replace(alternatives[0], end) if alternatives else pattern for end in ends]
        assert {name.removesuffix("(_total)?") for name in names} <= PROMETHEUS


def test_each_panel_and_target_has_a_place_and_a_data_source():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    sources = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    assert sources == {"${datasource}"}
