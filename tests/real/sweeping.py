"""A sweep of everything that is due by a later moment, run beside the service, so that no test waits for the clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from app.catalog.catalog import Catalog
from app.catalog.files import LATE_WRITE_GRACE
from app.jobs.sweeper import sweep
from app.storage.service import StorageService
from tests.real.service import Service
from tests.real.stacks import Stack

AHEAD = timedelta(days=3)
"""Past every lease and grace."""


def sweep_everything(service: Service) -> None:
    """Delete what is doomed or was being written, and what unfinished writes left. Nothing may be uploading."""
    service.people.call_with_storage(lambda catalog, storage: sweep_all(service.stack, catalog, storage))


async def sweep_all(stack: Stack, catalog: Catalog, storage: StorageService) -> None:
    """As `sweep_everything`. It skips every lease and grace, and so first waits for what those are there for: a store that still carries
    out what somebody who is dead sent."""
    if stack.bucket:
        await asyncio.to_thread(stack.bucket.server.finish)
    late = datetime.now(UTC) + AHEAD
    await sweep(catalog, storage, now=late)
    await sweep(catalog, storage, now=late + LATE_WRITE_GRACE)  # what was being written has been doomed by the first
    await storage.sweep_leftovers(timedelta(0))
