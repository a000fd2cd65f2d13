"""A sweep of everything that is due by a later moment, run beside the service, so that no test waits for the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.catalog.catalog import Catalog
from app.jobs.sweeper import sweep
from app.storage.service import StorageService
from tests.real.service import Service

AHEAD = timedelta(days=3)
"""Past every lease and grace."""


def sweep_everything(service: Service) -> None:
    """Delete what is doomed or was being written, and what unfinished writes left. Nothing may be uploading."""
    service.people.call_with_storage(_sweep)


async def _sweep(catalog: Catalog, storage: StorageService) -> None:
    await sweep(catalog, storage, now=datetime.now(UTC) + AHEAD)
    await storage.sweep_leftovers(timedelta(0))
