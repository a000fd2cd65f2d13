"""The queries of the dashboard and of the alert rules, parsed as Prometheus does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser
import yaml

FOLDER = Path(__file__).parents[2] / "docs" / "dashboards"
TARGET_LABELS = frozenset({"job", "instance"})
"""Prometheus adds these to each series."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A series that a query names, with the names of the labels that it selects by."""

    name: str
    labels: frozenset[str]


def read_alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def read_panels() -> list[dict[str, Any]]:
    return json.loads((FOLDER / "grafana.json").read_text(encoding="utf-8"))["panels"]


def list_queries() -> list[str]:
    """With values in place of Grafana's variables."""
    queries = [target["expr"] for panel in read_panels() for target in panel.get("targets", ())]
    return [query.replace("$__rate_interval", "5m") for query in queries] + [
        rule["expr"] for rule in read_alert_rules()
    ]


def find_selectors(query: str) -> Iterator[Selector]:
    """Raises `ValueError` where the query is no PromQL."""
    found: list[Selector] = []

    def visit(expression: Any) -> None:
        if isinstance(expression, promql_parser.VectorSelector):
            found.append(Selector(str(expression.name), frozenset(each.name for each in expression.matchers.matchers)))

    promql_parser.walk(promql_parser.parse(query), visit)
    yield from found


def find_grouping_labels(query: str) -> set[str]:
    return {
        label.strip()
        for labels in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", query)
        for label in labels.split(",")
    }
