"""Files that were made go into the storage, each with a row before its first byte, and stay only where something comes to refer to
them: whatever ends the work before that leaves them to the sweeper.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from uuid import UUID

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError, FileGone
from app.catalog.files import LATE_EFFECT_GRACE
from app.catalog.records import File, StoredFile
from app.media.products import Product
from app.storage.key import Key
from app.storage.service import StorageService

LEASE = timedelta(minutes=15)
"""How long a file row keeps the sweeper away after it was last renewed."""
RENEW_SECONDS = 180.0
"""Between two renewals; a lease outlasts several that fail."""

_log = structlog.get_logger(__name__)


class Publisher:
    """Stores what was made."""

    def __init__(
        self, catalog: Catalog, storage: StorageService, admit_write: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """`admit_write` raises a storage error while nothing may be written."""
        self._catalog = catalog
        self._storage = storage
        self._admit_write = admit_write

    @asynccontextmanager
    async def stored(self, owner_id: UUID, made: Sequence[tuple[Product, Key]]) -> AsyncIterator[list[StoredFile]]:
        """The products, each at its key and gone from where it was made. The block must hand all of them to the catalogue, which makes
        them live or dooms them; where the block fails, or is not reached, they are doomed.

        Raises `StorageError` and `CatalogError` (`FileGone` where a lease was lost).
        """
        if self._admit_write is not None:
            await self._admit_write()
        writing = _Writing(self._catalog)
        try:
            async with writing.leases_kept():
                files = [await self._store(writing, owner_id, product, key) for product, key in made]
                await writing.renew()
                writing.all_stored = True
                yield files
        except BaseException as error:
            await writing.give_up(error)
            raise

    async def _store(self, writing: _Writing, owner_id: UUID, product: Product, key: Key) -> StoredFile:
        path = self._storage.managed_path(key)
        row = await self._catalog.files.begin(owner_id, product.kind, path, product.mime_type, LEASE)
        writing.files.append(row)
        uploaded = await self._storage.upload_from_temp(product.path, path, content_type=product.mime_type)
        return StoredFile(row.id, uploaded.size, uploaded.sha1, uploaded.crc32)


class _Writing:
    """Rows of files that nothing refers to yet."""

    def __init__(self, catalog: Catalog) -> None:
        self.files: list[File] = []
        self.all_stored = False
        self._catalog = catalog

    @asynccontextmanager
    async def leases_kept(self) -> AsyncIterator[None]:
        """Renew them in the background: a large video on a slow link outlasts a lease."""
        keeper = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.wait([keeper])

    async def renew(self) -> None:
        """Raises `FileGone`."""
        for file in tuple(self.files):
            if not await self._catalog.files.renew(file.id, LEASE):
                raise FileGone(file.id)

    async def give_up(self, error: BaseException) -> None:
        """Leave them to the sweeper, and those to which the sweeper came before their objects were stored."""
        grace = timedelta(0) if self.all_stored else LATE_EFFECT_GRACE
        try:
            await self._catalog.files.doom_many([file.id for file in self.files], grace)
            if isinstance(error, FileGone):
                for file in self.files:
                    await self._catalog.files.bury(file)
        except CatalogError as failure:
            if not self._catalog.outages.covers(failure):
                _log.warning("files that were made are left to the sweeper until their lease ends", exc_info=True)

    async def _keep(self) -> None:
        with suppress(FileGone):  # noticed at the next step of the work, too
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                try:
                    await self.renew()
                except FileGone:
                    raise
                except CatalogError as error:
                    if not self._catalog.outages.covers(error):
                        _log.warning("the leases of files that are made are not renewed yet", exc_info=True)
