"""Samples the gauges of a process while its event loop runs, and measures how late the loop is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.metrics.families import LOOP_LAG
from app.metrics.instruments import ProcessMetrics

TICK_SECONDS = 0.25
TICKS_PER_SAMPLE = 4
"""Gauges are at most a second old, those of the process that answers are current."""


@asynccontextmanager
async def sampling(metrics: ProcessMetrics) -> AsyncIterator[None]:
    """Sample until the block ends."""
    task = asyncio.create_task(_sample(metrics), name="samples of metrics")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _sample(metrics: ProcessMetrics) -> None:
    lag = metrics.histogram(LOOP_LAG)
    ticks = 0
    metrics.sample_gauges()
    while True:
        due = time.monotonic() + TICK_SECONDS
        await asyncio.sleep(TICK_SECONDS)
        lag.observe(max(0.0, time.monotonic() - due))
        metrics.flush()
        ticks += 1
        if not ticks % TICKS_PER_SAMPLE:
            metrics.sample_gauges()
