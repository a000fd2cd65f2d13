"""Keeps the storage's lists of link roots and of foreign roots equal to those of the catalogue.

Storage follows symbolic links in external files only to targets below a link root, which is the import path of a library, and writes
nothing below a foreign root. Every process that reads originals needs the lists.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError
from app.storage.errors import CopyLookupFailed
from app.storage.service import StorageService

UPDATE_SECONDS = 5.0
"""Interval of updates, since other processes change libraries, too."""

log = structlog.get_logger(__name__)

SetLinkRoots = Callable[[Iterable[str]], None]


@asynccontextmanager
async def keep_read_roots_current(catalog: Catalog, storage: StorageService) -> AsyncIterator[None]:
    """Sets both lists before the block begins, and updates them until it ends. Raises `CatalogError` if the first update fails."""
    await _update_read_roots(catalog, storage)
    update_task = asyncio.create_task(_update_periodically(catalog, storage), name="import paths")
    try:
        yield
    finally:
        update_task.cancel()
        await asyncio.wait([update_task])


async def update_link_roots(catalog: Catalog, set_link_roots: SetLinkRoots) -> None:
    """Raises `CatalogError`."""
    libraries = await catalog.libraries.list()
    set_link_roots([path for library in libraries for path in library.import_paths])


async def update_foreign_roots(catalog: Catalog, storage: StorageService) -> None:
    """Also lets the storage find the copies of foreign files. Raises `CatalogError`; the lookup raises `CopyLookupFailed`."""

    async def find_copy(path: str) -> tuple[str, int] | None:
        try:
            copy = await catalog.kept_copies.find(path)
        except CatalogError as error:
            if not catalog.outages.record_failure(error):
                log.warning("the copy of a foreign file could not be looked up", reason=str(error))
            raise CopyLookupFailed(path, "catalog", str(error)) from error
        return None if copy is None else (copy.path, copy.size)

    storage.set_copy_lookup(find_copy)
    storage.set_foreign_roots(await catalog.foreign_files.list_roots())


async def _update_read_roots(catalog: Catalog, storage: StorageService) -> None:
    await update_link_roots(catalog, storage.set_external_link_roots)
    await update_foreign_roots(catalog, storage)


async def _update_periodically(catalog: Catalog, storage: StorageService) -> None:
    while True:
        await asyncio.sleep(UPDATE_SECONDS)
        try:
            await _update_read_roots(catalog, storage)
        except CatalogError as error:
            if not catalog.outages.record_failure(error):
                log.warning("the import paths of the libraries could not be read from the catalogue", reason=str(error))
