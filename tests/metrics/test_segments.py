"""The memory that processes share: counters of a process that was killed stay, its gauges go, and its successor goes on counting."""

from __future__ import annotations

import os
import signal
import socket
import warnings

from app.metrics.exposition import sum_segments
from app.metrics.families import HTTP_ACTIVE, HTTP_DURATION, STAGING_BYTES, UPLOADS
from app.metrics.instruments import ProcessMetrics
from app.metrics.segments import SEGMENT_BYTES, SharedSegments

CREATED = ("form", "created")


def count(segments: SharedSegments) -> float:
    return sum_segments(segments.segments)[UPLOADS][CREATED][0]


def test_processes_write_and_read_one_memory() -> None:
    """A forked process is killed while it counts. What it had counted by its last message is there."""
    segments = SharedSegments(2)
    metrics = ProcessMetrics(segments, segments.acquire())
    metrics.counter(UPLOADS).add(1, *CREATED)
    index = segments.acquire()
    ours, theirs = socket.socketpair()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child takes no lock that another thread may hold
        child = os.fork()
    if child == 0:
        counted = ProcessMetrics(segments, index)
        counted.add_gauge(STAGING_BYTES, lambda: {(): 7.0})
        counted.counter(UPLOADS).add(41, *CREATED)
        counted.sample_gauges()
        theirs.send(b"x")
        signal.pause()
    with ours, theirs:
        ours.settimeout(30)
        assert ours.recv(1) == b"x"
    assert count(segments) == 42
    assert sum_segments(segments.segments)[STAGING_BYTES][()] == [7.0]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert index is not None
    segments.release(index)
    assert count(segments) == 42
    assert () not in sum_segments(segments.segments)[STAGING_BYTES]
    assert segments.acquire() == index
    successor = ProcessMetrics(segments, index)
    successor.counter(UPLOADS).add(8, *CREATED)
    assert count(segments) == 50
    assert sum_segments(segments.segments)[STAGING_BYTES][()] == [0.0]


def test_an_entry_that_a_killed_process_began_is_none() -> None:
    """The header counts an entry only when it is complete: the next one takes its place."""
    segments = SharedSegments(1)
    segment = segments.segments[0]
    segment.add("first", 1)
    used = int(segment._numbers[0])
    segment._bytes[used : used + 64] = b"\xff" * 64
    values = segment.add("second", 2)
    assert [(key, list(values)) for key, values in segment.read()] == [("first", [0.0]), ("second", [0.0, 0.0])]
    assert values is not None


def test_a_full_segment_takes_no_more_and_keeps_counting_what_it_has() -> None:
    segments = SharedSegments(1)
    metrics = ProcessMetrics(segments, segments.acquire())
    histogram = metrics.histogram(HTTP_DURATION)
    for number in range(2 * SEGMENT_BYTES // 256):
        histogram.observe(0.1, "GET", f"/{number:0100}", "200")
    known = len(sum_segments(segments.segments)[HTTP_DURATION])
    assert 2000 < known < 2 * SEGMENT_BYTES // 256
    histogram.observe(0.1, "GET", f"/{0:0100}", "200")
    assert sum(sum_segments(segments.segments)[HTTP_DURATION]["GET", f"/{0:0100}", "200"][:-1]) == 2


def test_without_a_segment_nothing_is_exported() -> None:
    segments = SharedSegments(1)
    segments.acquire()
    assert segments.acquire() is None
    ProcessMetrics(segments, None).counter(UPLOADS).add(1, *CREATED)
    assert CREATED not in sum_segments(segments.segments)[UPLOADS]


def test_a_gauge_that_is_no_longer_told_is_zero() -> None:
    metrics = ProcessMetrics(SharedSegments(1), 0)
    values = {("GET",): 2.0}
    metrics.add_gauge(HTTP_ACTIVE, lambda: values)
    metrics.add_gauge(HTTP_ACTIVE, lambda: {("GET",): 1.0})
    metrics.segments.segments[0].set_owned(True)
    metrics.sample_gauges()
    assert sum_segments(metrics.segments.segments)[HTTP_ACTIVE] == {("GET",): [3.0]}
    values.clear()
    values["PUT",] = 5.0
    metrics.sample_gauges()
    assert sum_segments(metrics.segments.segments)[HTTP_ACTIVE] == {("GET",): [1.0], ("PUT",): [5.0]}
