"""Portraits: the one picture of a person, cut out of an asset, and the profile image of a user, which is sent.

Made while the caller waits, in the same sandbox as everything else, and kept as derivatives are: the new file takes the place of the
old one in one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import UUID

from app.catalog.catalog import Catalog
from app.catalog.errors import NotFound
from app.catalog.records import AssetType, File, FileKind
from app.config import MEBIBYTE
from app.formats import Format, supported
from app.media.keys import person_key, profile_key
from app.media.processor import Processor
from app.media.products import Box
from app.media.publishing import Publisher
from app.storage.errors import ObjectNotFound
from app.storage.service import StorageService

MAX_PROFILE_BYTES = 64 * MEBIBYTE
AT_ONCE = 2
"""As many are made at a time: this is work for callers who wait, beside the work that is queued."""


class NotReady(Exception):
    """What the portrait would be cut out of is not made yet, or could not be made."""


class ChangedMeanwhile(Exception):
    """Somebody else set the same portrait at the same moment; theirs stays."""


class Portraits:
    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        processor: Processor,
        publisher: Publisher,
    ) -> None:
        self._catalog = catalog
        self._storage = storage
        self._processor = processor
        self._publisher = publisher
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def show_person(self, owner_id: UUID, person_id: UUID, asset_id: UUID, box: Box) -> None:
        """Cut the box out of the asset (of a video: out of its preview) and make it the person's picture; a person that there is not
        is made. Raises `NotFound`, `NotReady`, `ChangedMeanwhile`, `MediaError` and storage errors; then the old picture stays."""
        async with self._turns, self._original(owner_id, asset_id) as (source, format), self._folder() as folder:
            product = await self._processor.make_person_thumbnail(source, format, box, folder)
            person = await self._catalog.persons.ensure(owner_id, person_id)
            if person is None:
                raise NotFound("person", [person_id])
            key = person_key(owner_id, person_id, product.extension)
            async with self._publisher.stored(owner_id, [(product, key)]) as [stored]:
                seen = person.thumbnail_file_id
                if not await self._catalog.persons.show(owner_id, person_id, asset_id, seen, stored):
                    raise ChangedMeanwhile

    async def show_user(self, user_id: UUID, format: Format, chunks: AsyncIterator[memoryview]) -> None:
        """Make a square of what `chunks` hold and make it the user's profile image. Raises as `show_person`, `ObjectTooLarge`, and what
        `chunks` raise."""
        staging = self._storage.staging
        async with (
            staging.received(chunks, MAX_PROFILE_BYTES, format.extension) as source,
            self._turns,
            self._folder() as folder,
        ):
            product = await self._processor.make_profile_image(source, format, folder)
            user = await self._catalog.users.get(user_id)
            seen = None if user is None else user.profile_file_id
            key = profile_key(user_id, product.extension)
            async with self._publisher.stored(user_id, [(product, key)]) as [stored]:
                if not await self._catalog.persons.show_user(user_id, seen, stored):
                    raise ChangedMeanwhile

    async def remove_user(self, user_id: UUID) -> None:
        """The user has no profile image any more. Raises `ChangedMeanwhile`."""
        user = await self._catalog.users.get(user_id)
        if user is None or user.profile_file_id is None:
            return
        if not await self._catalog.persons.show_user(user_id, user.profile_file_id, None):
            raise ChangedMeanwhile

    def _folder(self) -> AbstractAsyncContextManager[Path]:
        return self._storage.staging.folder()

    @asynccontextmanager
    async def _original(self, owner_id: UUID, asset_id: UUID) -> AsyncIterator[tuple[Path, Format]]:
        """A local file that shows what the asset shows, and what its name says it is."""
        file = await self._source_of(owner_id, asset_id)
        async with AsyncExitStack() as stack:
            try:
                source = await stack.enter_async_context(self._storage.stage_to_temp(file.path, size=file.size))
            except ObjectNotFound:  # moved since its row was read?
                moved = await self._source_of(owner_id, asset_id)
                if moved.path == file.path:
                    raise
                source = await stack.enter_async_context(self._storage.stage_to_temp(moved.path, size=moved.size))
            format = supported(file.path)
            if format is None:
                raise NotReady("The asset is of a kind that nothing can be cut out of")
            yield source, format

    async def _source_of(self, owner_id: UUID, asset_id: UUID) -> File:
        pictures = await self._catalog.pictures.of_asset(asset_id)
        if pictures is None or pictures.asset.owner_id != owner_id:
            raise NotFound("asset", [asset_id])
        file = pictures.asset.file if pictures.asset.type is AssetType.IMAGE else pictures.made.get(FileKind.PREVIEW)
        if file is None:
            raise NotReady("There is no preview of this video yet that the picture could be cut out of")
        return file
