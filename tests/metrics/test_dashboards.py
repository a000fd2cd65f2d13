"""The dashboard and the alert rules are valid and name only metrics and labels that exist; `docs/metrics.md` describes every metric.

That each of these metrics is in a real answer is tested in `tests/api/test_metrics.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

import promql_parser
import pytest

from app.metrics.families import ALL_FAMILIES, MetricFamily, MetricKind
from tests.metrics.named_metrics import (
    TARGET_LABELS,
    find_grouping_labels,
    find_selectors,
    list_queries,
    read_alert_rules,
    read_panels,
)

DOCUMENT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def list_sample_names(family: MetricFamily) -> list[str]:
    suffixes = {
        MetricKind.COUNTER: ["_total"],
        MetricKind.GAUGE: [""],
        MetricKind.HISTOGRAM: ["_bucket", "_count", "_sum"],
    }
    return [family.name + suffix for suffix in suffixes[family.kind]]


FAMILIES = {name: family for family in ALL_FAMILIES for name in list_sample_names(family)}


@pytest.mark.parametrize("query", list_queries())
def test_a_query_names_what_exists(query: str) -> None:
    known = set(TARGET_LABELS)
    for selector in find_selectors(query):
        if selector.name == "up":
            continue
        family = FAMILIES[selector.name]
        labels = {*family.labels, *(["le"] if selector.name.endswith("_bucket") else [])}
        assert selector.labels <= labels | TARGET_LABELS
        known |= labels
    assert find_grouping_labels(query) <= known


def test_everything_is_shown() -> None:
    named = {
        FAMILIES[selector.name].name
        for query in list_queries()
        for selector in find_selectors(query)
        if selector.name != "up"
    }
    assert named == {family.name for family in ALL_FAMILIES}


def test_the_rules_are_valid() -> None:
    rules = read_alert_rules()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        if "for" in rule:
            assert promql_parser.parse_duration(rule["for"])
        # A text may only use labels that the result has.
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert used <= find_grouping_labels(rule["expr"]) | (TARGET_LABELS if rule["expr"].startswith("up") else set())


def test_the_panels_do_not_overlap() -> None:
    panels = read_panels()
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_document_describes_every_metric() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|(.*?)\| .+ \|$", DOCUMENT, re.MULTILINE)
    described = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert described == {
        family.name + ("_total" if family.kind is MetricKind.COUNTER else ""): (family.kind.value, family.labels)
        for family in ALL_FAMILIES
    }
    assert len(rows) == len(described)
