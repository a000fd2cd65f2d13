"""`ProcessMetrics`: the counters, histograms and gauges of one process, which write to its segment.

An instrument keeps the values of each combination of labels that it has met, so that recording costs a lookup and a few additions.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping

from app.metrics.families import PROCESS_FAMILIES, MetricFamily, MetricKind
from app.metrics.segments import Segment, SharedSegments

LabelValues = tuple[str, ...]
ReadGauges = Callable[[], Mapping[LabelValues, float]]
"""Returns the current value of each combination of labels. Never waits."""


def encode_key(family: MetricFamily, labels: LabelValues) -> str:
    return json.dumps([family.name, *labels])


def decode_key(key: str) -> tuple[str, LabelValues]:
    """The family's name and the label values."""
    name, *labels = json.loads(key)
    return name, tuple(labels)


class SeriesTable:
    """The values of one family by label values."""

    def __init__(self, family: MetricFamily, segment: Segment, known: Mapping[str, memoryview[float]]) -> None:
        """`known`: the entries that the segment has from an earlier process."""
        self._family = family
        self._segment = segment
        self._known = known
        self._series: dict[LabelValues, memoryview[float]] = {}
        for labels in family.preset:
            self.find(labels)

    def find(self, labels: LabelValues) -> memoryview[float]:
        try:
            return self._series[labels]
        except KeyError:
            return self._add(labels)

    def items(self) -> Iterator[tuple[LabelValues, memoryview[float]]]:
        return iter(self._series.items())

    def _add(self, labels: LabelValues) -> memoryview[float]:
        key, count = encode_key(self._family, labels), self._family.value_count
        values = self._known.get(key) or self._segment.add(key, count)
        if values is None:  # the segment is full: this series is not exported
            values = memoryview(bytearray(count * 8)).cast("d")
        self._series[labels] = values
        return values


class Counter:
    def __init__(self, series: SeriesTable) -> None:
        self.series = series

    def add(self, amount: float, *labels: str) -> None:
        self.series.find(labels)[0] += amount


class Histogram:
    def __init__(self, series: SeriesTable, buckets: tuple[float, ...]) -> None:
        self.series = series
        self._buckets = buckets

    def observe(self, seconds: float, *labels: str) -> None:
        values = self.series.find(labels)
        values[bisect_left(self._buckets, seconds)] += 1.0
        values[-1] += seconds


class ProcessMetrics:
    """The instruments of one process. `segments` are those of all processes of the host; `index`: that of this process; None: there was none
    left, and nothing that this process records is exported."""

    def __init__(self, segments: SharedSegments, index: int | None) -> None:
        self.segments = segments
        segment = (SharedSegments(1) if index is None else segments).segments[index or 0]
        known = dict(segment.read())
        self._tables = {family.name: SeriesTable(family, segment, known) for family in PROCESS_FAMILIES}
        self._gauges: dict[str, list[ReadGauges]] = {}
        self._totals: list[_SampledTotal] = []
        self._flushes: list[Callable[[], None]] = []
        gauges = {family.name for family in PROCESS_FAMILIES if family.kind is MetricKind.GAUGE}
        for key, values in known.items():
            if decode_key(key)[0] in gauges:  # of the process that had the segment before
                values[0] = 0.0

    def counter(self, family: MetricFamily) -> Counter:
        return Counter(self._tables[family.name])

    def histogram(self, family: MetricFamily) -> Histogram:
        return Histogram(self._tables[family.name], family.buckets)

    def add_gauge(self, family: MetricFamily, read: ReadGauges) -> None:
        """Sample `read` whenever `sample_gauges` is called; several functions of one family add up. Combinations of labels that none returns
        any more are 0."""
        self._gauges.setdefault(family.name, []).append(read)

    def add_total(self, family: MetricFamily, read: ReadGauges) -> None:
        """Add to a counter by how much the totals that `read` returns have grown, whenever `sample_gauges` is called."""
        self._totals.append(_SampledTotal(self._tables[family.name], read))

    def add_flush(self, flush: Callable[[], None]) -> None:
        """Call `flush` four times a second and before each answer: it writes what was added up in the process's own memory."""
        self._flushes.append(flush)

    def flush(self) -> None:
        for each in self._flushes:
            each()

    def sample_gauges(self) -> None:
        self.flush()
        for total in self._totals:
            total.sample()
        for name, functions in self._gauges.items():
            values: dict[LabelValues, float] = {}
            for read in functions:
                for labels, value in read().items():
                    values[labels] = values.get(labels, 0.0) + value
            table = self._tables[name]
            for labels, series in table.items():
                series[0] = values.pop(labels, 0.0)
            for labels, value in values.items():
                table.find(labels)[0] = value


class _SampledTotal:
    """A counter that is counted elsewhere, from 0 at the start of the process."""

    def __init__(self, series: SeriesTable, read: ReadGauges) -> None:
        self._series = series
        self._read = read
        self._counted: dict[LabelValues, float] = {}

    def sample(self) -> None:
        for labels, total in self._read().items():
            self._series.find(labels)[0] += total - self._counted.get(labels, 0.0)
            self._counted[labels] = total
