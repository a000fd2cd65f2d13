"""Delivers originals of external libraries, and foreign files without a checksum, with their current size, times and entity tag; answers 503
where their folder is not mounted."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from starlette.types import Receive, Scope, Send

from app.api.errors import ApiError
from app.api.files.renditions import ServedFile
from app.archives.errors import MemberLost
from app.catalog.catalog import Catalog
from app.delivery.response import NO_CACHE, HoldSlot, Representation
from app.delivery.stored_source import StoredSource
from app.libraries.service import LibraryService
from app.storage.errors import ObjectChanged, ObjectNotFound, StorageUnavailable
from app.storage.service import StorageService

MAX_ATTEMPTS = 3
"""Deliveries tried when the file changes between its stat and its opening."""
RETRY_AFTER_HEADER = {"retry-after": "30"}


@dataclass(frozen=True, slots=True)
class ExternalFile:
    """A file that its owner may change at any time: each request reads its size, times and entity tag from storage."""

    served: ServedFile

    @property
    def owner_id(self) -> UUID:
        return self.served.owner_id

    @property
    def is_locked(self) -> bool:
        return self.served.is_locked

    async def deliver(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        storage: StorageService,
        libraries: LibraryService,
        *,
        attachment: bool,
        hold_slot: HoldSlot,
    ) -> None:
        """Raises `ObjectNotFound`, or `ApiError` 503 if the file's library is not mounted or its disk does not answer."""
        for attempt in range(MAX_ATTEMPTS):
            try:
                source = await self._stat_source(storage)
                representation = Representation(source, attachment=attachment, cache_control=NO_CACHE)
                await representation.deliver(scope, receive, send, hold_slot=hold_slot)
            except ObjectChanged:  # between stat and open; a later change raises `TransferAborted`
                if attempt == MAX_ATTEMPTS - 1:
                    raise
            except (ObjectNotFound, StorageUnavailable) as error:
                await raise_if_unmounted(self.served.library_id, libraries, error)
                raise
            else:
                return

    async def _stat_source(self, storage: StorageService) -> StoredSource:
        file = self.served.file
        info = await storage.stat(file.path)
        return StoredSource(
            storage,
            path=file.path,
            size=info.size,
            etag=f'"{info.etag}"',
            last_modified=info.last_modified,
            content_type=file.mime_type,
            filename=self.served.filename,
            version=info.etag,
        )


async def raise_if_unmounted(library_id: UUID | None, libraries: LibraryService, error: Exception) -> None:
    """Raises `ApiError` 503 if the library is not mounted or its disk does not answer: then the file is not lost."""
    reason = None if library_id is None else await libraries.explain_missing_file(library_id)
    if reason is not None:
        raise ApiError(503, reason, headers=RETRY_AFTER_HEADER) from error


async def raise_if_member_unmounted(lost: MemberLost, catalog: Catalog, libraries: LibraryService) -> None:
    """`raise_if_unmounted` for the library of an archive's lost member."""
    asset = await catalog.assets.get(lost.asset_id)
    if asset is not None:
        await raise_if_unmounted(asset.library_id, libraries, lost)
