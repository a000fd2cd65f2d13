"""Keeps the storage's list of link roots equal to the import paths of all libraries.

Storage follows symbolic links in external files only to targets below a link root. Every process that reads originals needs the list.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError

UPDATE_SECONDS = 5.0
"""Interval of updates, since other processes change libraries, too."""

log = structlog.get_logger(__name__)

SetLinkRoots = Callable[[Iterable[str]], None]


@asynccontextmanager
async def keep_link_roots_current(catalog: Catalog, set_link_roots: SetLinkRoots) -> AsyncIterator[None]:
    """Sets the link roots before the block begins, and updates them until it ends. Raises `CatalogError` if the first update fails."""
    await update_link_roots(catalog, set_link_roots)
    update_task = asyncio.create_task(_update_periodically(catalog, set_link_roots), name="import paths")
    try:
        yield
    finally:
        update_task.cancel()
        await asyncio.wait([update_task])


async def update_link_roots(catalog: Catalog, set_link_roots: SetLinkRoots) -> None:
    """Raises `CatalogError`."""
    libraries = await catalog.libraries.list()
    set_link_roots([path for library in libraries for path in library.import_paths])


async def _update_periodically(catalog: Catalog, set_link_roots: SetLinkRoots) -> None:
    while True:
        await asyncio.sleep(UPDATE_SECONDS)
        try:
            await update_link_roots(catalog, set_link_roots)
        except CatalogError as error:
            if not catalog.outages.record_failure(error):
                log.warning("the import paths of the libraries could not be read from the catalogue", reason=str(error))
