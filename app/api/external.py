"""Originals of external libraries: whatever the file is at this moment, or the reason why it cannot be seen."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from starlette.types import Receive, Scope, Send

from app.api.errors import ApiError
from app.api.renditions import Shown
from app.archives.errors import MemberLost
from app.catalog.catalog import Catalog
from app.delivery.response import NO_CACHE, Representation
from app.delivery.stored import StoredSource
from app.libraries.service import Libraries
from app.storage.errors import ObjectChanged, ObjectNotFound, StorageUnavailable
from app.storage.service import StorageService

ATTEMPTS = 3
RETRY_AFTER = {"retry-after": "30"}


@dataclass(frozen=True, slots=True)
class External:
    """A file that its owner may change at any time: its size, times and entity tag are asked for with each request."""

    shown: Shown

    @property
    def owner_id(self) -> UUID:
        return self.shown.owner_id

    async def deliver(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        storage: StorageService,
        libraries: Libraries,
        *,
        attachment: bool,
    ) -> None:
        """Raises `ObjectNotFound`, or 503 where the file's library is not mounted or its disk does not answer."""
        for attempt in range(ATTEMPTS):
            try:
                source = await self._source(storage)
                representation = Representation(source, attachment=attachment, cache_control=NO_CACHE)
                await representation.deliver(scope, receive, send)
            except ObjectChanged:  # between the look and the opening; afterwards it is a transfer that was cut
                if attempt == ATTEMPTS - 1:
                    raise
            except (ObjectNotFound, StorageUnavailable) as error:
                await refuse_unmounted(self.shown.library_id, libraries, error)
                raise
            else:
                return

    async def _source(self, storage: StorageService) -> StoredSource:
        file = self.shown.file
        info = await storage.stat(file.path)
        return StoredSource(
            storage,
            path=file.path,
            size=info.size,
            etag=f'"{info.etag}"',
            last_modified=info.last_modified,
            content_type=file.mime_type,
            filename=self.shown.filename,
            version=info.etag,
        )


async def refuse_unmounted(library_id: UUID | None, libraries: Libraries, error: Exception) -> None:
    """503 where what is missing is not lost: its library is not mounted, or its disk does not answer."""
    reason = None if library_id is None else await libraries.why_missing(library_id)
    if reason is not None:
        raise ApiError(503, reason, headers=RETRY_AFTER) from error


async def refuse_unmounted_member(lost: MemberLost, catalog: Catalog, libraries: Libraries) -> None:
    """The same for a member of an archive."""
    asset = await catalog.assets.get(lost.asset_id)
    if asset is not None:
        await refuse_unmounted(asset.library_id, libraries, lost)
