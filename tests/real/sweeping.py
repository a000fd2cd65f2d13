"""Runs the sweeper with a later time, beside the service, so that no test waits for leases and graces."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from app.catalog.catalog import Catalog
from app.catalog.files import LATE_WRITE_GRACE
from app.jobs.sweeper import sweep
from app.storage.service import StorageService
from app.uploads.sessions.upload_sweeper import sweep_uploads
from tests.real.service import Service
from tests.real.stacks import Stack

AHEAD = timedelta(days=3)
"""Longer than every lease and grace."""


def sweep_everything(service: Service) -> None:
    """End all unfinished uploads, delete all doomed files, all files in state `writing`, and leftovers of unfinished writes. No upload may be
    running."""
    service.people.call_with_storage(lambda catalog, storage: sweep_all(service.stack, catalog, storage))


async def sweep_all(stack: Stack, catalog: Catalog, storage: StorageService) -> None:
    """Like `sweep_everything`. Leases and graces exist because a store may still execute requests of dead clients. This skips them, so it first
    waits until the store has executed all such requests."""
    if stack.bucket:
        await asyncio.to_thread(stack.bucket.server.finish)
    late = datetime.now(UTC) + AHEAD
    for moment in (late, late + LATE_WRITE_GRACE):  # the first sweep dooms the files that were being written
        await sweep_uploads(catalog, storage, now=moment, lifetime=timedelta(0))
        await sweep(catalog, storage, now=moment)
    await storage.sweep_leftovers(timedelta(0))
