"""Writes the sum of all processes' metrics, and what else is known, as OpenMetrics or in the older text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from app.metrics.families import PROCESS_FAMILIES, PROCESSES, MetricFamily, MetricKind
from app.metrics.instruments import LabelValues, decode_key
from app.metrics.segments import Segment

_UNITS = frozenset({"seconds", "bytes"})

Samples = Mapping[MetricFamily, Mapping[LabelValues, float]]
"""Values of gauges by family and label values."""


def sum_segments(segments: Iterable[Segment]) -> dict[MetricFamily, dict[LabelValues, list[float]]]:
    """The sums over all processes; of gauges, over those that have not ended."""
    families = {family.name: family for family in PROCESS_FAMILIES}
    sums: dict[MetricFamily, dict[LabelValues, list[float]]] = {family: {} for family in PROCESS_FAMILIES}
    for segment in segments:
        is_owned = segment.is_owned
        for key, values in segment.read():
            name, labels = decode_key(key)
            family = families[name]
            if family.kind is MetricKind.GAUGE and not is_owned:
                continue
            known = sums[family].get(labels)
            sums[family][labels] = (
                list(values) if known is None else [a + b for a, b in zip(known, values, strict=True)]
            )
    return sums


def write_metrics(segments: Iterable[Segment], gauges: Samples, accept: str) -> tuple[bytes, str]:
    """The text and its content type; `accept` is the request's field."""
    segments = list(segments)
    gauges = {**gauges, PROCESSES: {(): float(sum(segment.is_owned for segment in segments))}}
    collector: Any = _Collector(segments, gauges)  # prometheus_client's encoders need nothing but `collect`
    try:
        encode, content_type = choose_encoder(accept)
        return encode(collector), content_type
    except (TypeError, ValueError):  # a version that cannot be parsed
        return generate_latest(collector), CONTENT_TYPE_LATEST


class _Collector:
    def __init__(self, segments: Iterable[Segment], gauges: Samples) -> None:
        self._segments = segments
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for family, series in sum_segments(self._segments).items():
            yield _build_metric(family, series)
        for family, samples in self._gauges.items():
            yield _build_metric(family, {labels: [value] for labels, value in samples.items()})


def _build_metric(family: MetricFamily, series: Mapping[LabelValues, list[float]]) -> Metric:
    suffix = family.name.rpartition("_")[2]
    unit = suffix if suffix in _UNITS else ""
    if family.kind is MetricKind.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.description, labels=family.labels, unit=unit)
        bounds = [floatToGoString(bound) for bound in (*family.buckets, float("inf"))]
        for labels, (*counts, total) in series.items():
            histogram.add_metric(labels, list(zip(bounds, accumulate(counts), strict=True)), total)
        return histogram
    is_counter = family.kind is MetricKind.COUNTER
    metric = (CounterMetricFamily if is_counter else GaugeMetricFamily)(
        family.name, family.description, labels=family.labels, unit=unit
    )
    for labels, (value,) in series.items():
        metric.add_metric(labels, value)
    return metric
