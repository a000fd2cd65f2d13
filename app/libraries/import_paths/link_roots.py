"""Keeps storage told of the import paths of all libraries, since links in them are followed only within: in every process that reads originals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError

UPDATE_SECONDS = 5.0
"""Other processes change libraries, too."""

log = structlog.get_logger(__name__)

SetLinkRoots = Callable[[Iterable[str]], None]


@asynccontextmanager
async def keep_link_roots_current(catalog: Catalog, set_link_roots: SetLinkRoots) -> AsyncIterator[None]:
    """Links lead nowhere else from the block's first moment on. Raises `CatalogError`."""
    await update_link_roots(catalog, set_link_roots)
    telling = asyncio.create_task(_update_periodically(catalog, set_link_roots), name="import paths")
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait([telling])


async def update_link_roots(catalog: Catalog, set_link_roots: SetLinkRoots) -> None:
    libraries = await catalog.libraries.list()
    set_link_roots([path for library in libraries for path in library.import_paths])


async def _update_periodically(catalog: Catalog, confine: SetLinkRoots) -> None:
    while True:
        await asyncio.sleep(UPDATE_SECONDS)
        try:
            await update_link_roots(catalog, confine)
        except CatalogError as error:
            if not catalog.outages.covers(error):
                log.warning("the import paths could not be read", reason=str(error))
