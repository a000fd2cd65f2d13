"""Keeps storage told of the import paths of all libraries, since links in them are followed only within: in every process that reads originals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError

TELL_SECONDS = 5.0
"""Other processes change libraries, too."""

log = structlog.get_logger(__name__)

Confine = Callable[[Iterable[str]], None]


@asynccontextmanager
async def confined(catalog: Catalog, confine: Confine) -> AsyncIterator[None]:
    """Links lead nowhere else from the block's first moment on. Raises `CatalogError`."""
    await tell_import_paths(catalog, confine)
    telling = asyncio.create_task(_keep_telling(catalog, confine), name="import paths")
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait([telling])


async def tell_import_paths(catalog: Catalog, confine: Confine) -> None:
    libraries = await catalog.libraries.list()
    confine([path for library in libraries for path in library.import_paths])


async def _keep_telling(catalog: Catalog, confine: Confine) -> None:
    while True:
        await asyncio.sleep(TELL_SECONDS)
        try:
            await tell_import_paths(catalog, confine)
        except CatalogError as error:
            if not catalog.outages.covers(error):
                log.warning("the import paths could not be read", reason=str(error))
