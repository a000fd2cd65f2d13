"""A sweep of everything that is due by a later moment, run beside the service, so that no test waits for the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.catalog.catalog import Catalog
from app.config import Settings
from app.jobs.sweeper import sweep
from app.storage.service import open_storage
from tests.real.service import Service
from tests.real.stacks import Stack

AHEAD = timedelta(days=3)
"""Past every lease and grace."""


def sweep_everything(service: Service) -> None:
    """Delete what is doomed or was being written, and what unfinished writes left. Nothing may be uploading."""

    async def run(catalog: Catalog) -> None:
        storage = await open_storage(settings_of(service.stack))
        try:
            await sweep(catalog, storage, now=datetime.now(UTC) + AHEAD)
            await storage.sweep_leftovers(timedelta(0))
        finally:
            await storage.aclose()

    service.people.call(run)


def settings_of(stack: Stack) -> Settings:
    """The stack's settings, as the service reads them."""
    return Settings(_env_file=None, **stack.settings)  # pyright: ignore[reportCallIssue, reportArgumentType]
