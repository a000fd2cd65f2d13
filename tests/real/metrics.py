"""Reads `/metrics` of a service or a worker, as Prometheus does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True, slots=True)
class Scrape:
    """One answer. `values`: by name of the sample and its labels."""

    families: Mapping[str, Metric]
    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def sum(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels."""
        return sum(self.list(name, **labels))

    def list(self, name: str, **labels: str) -> list[float]:
        return [value for (each, have), value in self.values.items() if each == name and labels.items() <= set(have)]

    def label_values(self, label: str) -> set[str]:
        return {value for _, have in self.values for name, value in have if name == label}


class MetricsClient:
    """The processes of one host, whose port for metrics is `port`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/metrics"

    def get(self, *, accept: str = OPENMETRICS, timeout: float = 10.0) -> httpx.Response:
        """On a new connection, which any of the processes may accept."""
        return httpx.get(self.url, headers={"accept": accept}, timeout=timeout, trust_env=False)

    def scrape(self, *, timeout: float = 10.0) -> Scrape:
        response = self.get(timeout=timeout)
        assert response.status_code == 200, response.text
        return parse_scrape(response.text)


def parse_scrape(text: str) -> Scrape:
    """Raises `ValueError` where the text is not OpenMetrics."""
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = [sample for family in families.values() for sample in family.samples]
    return Scrape(families, {(each.name, frozenset(each.labels.items())): each.value for each in samples})
