"""Shows the limits of uploads, downloads and archives, and what they refuse, in metrics."""

from __future__ import annotations

from collections.abc import Mapping

from app.api.transfer_limits import TransferLimits
from app.concurrency_limit import ConcurrencyLimit
from app.metrics.families import TRANSFER_LIMIT, TRANSFERS, TRANSFERS_REFUSED
from app.metrics.instruments import ProcessMetrics


def add_transfer_metrics(metrics: ProcessMetrics, limits: TransferLimits) -> None:
    kinds: dict[str, ConcurrencyLimit] = {
        "uploads": limits.uploads,
        "downloads": limits.downloads,
        "archives": limits.archives,
    }

    def read_limits() -> Mapping[tuple[str, ...], float]:
        return {
            (kind, scope): float(number)
            for kind, limit in kinds.items()
            for scope, number in (("all", limit.limit), ("account", limit.account_limit))
            if number is not None
        }

    metrics.add_gauge(TRANSFERS, lambda: {(kind,): float(limit.in_use) for kind, limit in kinds.items()})
    metrics.add_gauge(TRANSFER_LIMIT, read_limits)
    metrics.add_total(TRANSFERS_REFUSED, lambda: {(kind,): float(limit.refused_total) for kind, limit in kinds.items()})
