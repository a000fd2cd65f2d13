"""Writes generated files to the storage. Each gets a file row before its first byte is written.

A file stays only if its caller makes an asset or person refer to it. If the work ends before that, the file is marked for deletion or
its lease expires, and the sweeper deletes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from uuid import UUID

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError, WriteLeaseLost
from app.catalog.files import LATE_WRITE_GRACE
from app.catalog.schema.records import File, StoredFile
from app.media.processing_results import GeneratedFile
from app.storage.key import Key
from app.storage.service import StorageService

LEASE = timedelta(minutes=15)
"""Lease of a file row. The sweeper leaves the row alone until the lease expires."""
RENEW_SECONDS = 180.0
"""Seconds between two renewals. A lease outlasts several failed renewals."""

_log = structlog.get_logger(__name__)


class GeneratedFileStore:
    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        check_media_location: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`check_media_location` raises a storage error while the media location must not be written to."""
        self._catalog = catalog
        self._storage = storage
        self._check_media_location = check_media_location

    @asynccontextmanager
    async def store_files(
        self, owner_id: UUID, generated: Sequence[tuple[GeneratedFile, Key]]
    ) -> AsyncIterator[list[StoredFile]]:
        """Move each file to its key and yield the stored files. The block must hand all of them to the catalogue, which makes each live
        or dooms it. If the block fails or is not reached, all files are doomed.

        Raises `StorageError` and `CatalogError` (`WriteLeaseLost` if a lease was lost).
        """
        if self._check_media_location is not None:
            await self._check_media_location()
        writing = _UnreferencedFiles(self._catalog)
        try:
            async with writing.keep_leases():
                files = [await self._store(writing, owner_id, product, key) for product, key in generated]
                await writing.renew_leases()
                writing.all_stored = True
                yield files
        except BaseException as error:
            await writing.mark_for_deletion(error)
            raise

    async def _store(self, writing: _UnreferencedFiles, owner_id: UUID, product: GeneratedFile, key: Key) -> StoredFile:
        path = self._storage.managed_path(key)
        row = await self._catalog.files.begin_write(owner_id, product.kind, path, product.mime_type, LEASE)
        writing.files.append(row)
        uploaded = await self._storage.upload_from_temp(product.path, path, content_type=product.mime_type)
        return StoredFile(row.id, uploaded.size, uploaded.sha1, uploaded.crc32)


class _UnreferencedFiles:
    """Rows of generated files that no asset or person refers to yet."""

    def __init__(self, catalog: Catalog) -> None:
        self.files: list[File] = []
        self.all_stored = False
        self._catalog = catalog

    @asynccontextmanager
    async def keep_leases(self) -> AsyncIterator[None]:
        """Renew the leases in the background, because the upload of a large video over a slow link outlasts a lease."""
        renewal = asyncio.create_task(self._renew_periodically())
        try:
            yield
        finally:
            renewal.cancel()
            await asyncio.wait([renewal])

    async def renew_leases(self) -> None:
        """Renew the leases of all rows. Raises `WriteLeaseLost`."""
        for file in tuple(self.files):
            if not await self._catalog.files.renew_lease(file.id, LEASE):
                raise WriteLeaseLost(file.id)

    async def mark_for_deletion(self, error: BaseException) -> None:
        """Doom all rows. If `error` is `WriteLeaseLost`, also insert rows again that the sweeper deleted before their objects were stored."""
        grace = timedelta(0) if self.all_stored else LATE_WRITE_GRACE
        try:
            await self._catalog.files.mark_many_for_deletion([file.id for file in self.files], grace)
            if isinstance(error, WriteLeaseLost):
                for file in self.files:
                    await self._catalog.files.mark_late_upload_for_deletion(file)
        except CatalogError as failure:
            if not self._catalog.outages.record_failure(failure):
                _log.warning(
                    "generated files could not be marked for deletion; the sweeper deletes them after their leases expire",
                    exc_info=True,
                )

    async def _renew_periodically(self) -> None:
        with suppress(WriteLeaseLost):  # the next step of the work raises it too
            while True:
                await asyncio.sleep(RENEW_SECONDS)
                try:
                    await self.renew_leases()
                except WriteLeaseLost:
                    raise
                except CatalogError as error:
                    if not self._catalog.outages.record_failure(error):
                        _log.warning(
                            "the leases of generated files could not be renewed; next attempt in a few minutes",
                            exc_info=True,
                        )
