"""The gauges of what a process holds: connections of the database's pools, and staged bytes."""

from __future__ import annotations

from collections.abc import Mapping

from app.catalog.database.engine import Database
from app.metrics.families import (
    DATABASE_CONNECTIONS,
    DATABASE_CONNECTIONS_MAX,
    DATABASE_PENDING,
    STAGING_BYTES,
    TRANSFERS_REFUSED,
)
from app.metrics.instruments import ProcessMetrics
from app.storage.staging import Staging


def add_process_gauges(metrics: ProcessMetrics, database: Database, staging: Staging) -> None:
    pools = database.pools

    def read_connections() -> Mapping[tuple[str, ...], float]:
        return {
            (pool, state): float(count)
            for pool, slots in pools.items()
            for state, count in (("used", slots.used), ("idle", slots.limit - slots.used))
        }

    metrics.add_gauge(DATABASE_CONNECTIONS, read_connections)
    metrics.add_gauge(DATABASE_CONNECTIONS_MAX, lambda: {(pool,): float(slots.limit) for pool, slots in pools.items()})
    metrics.add_gauge(DATABASE_PENDING, lambda: {(pool,): float(slots.waiting) for pool, slots in pools.items()})
    metrics.add_total(TRANSFERS_REFUSED, lambda: {("database_calls",): float(database.waits.refused_total)})
    metrics.add_gauge(STAGING_BYTES, lambda: {(): float(staging.reserved_bytes)})
