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
from app.catalog.schema.records import AssetType, File, FileKind
from app.config import MEBIBYTE
from app.formats import MediaFormat, find_format
from app.media.generated_file_keys import make_person_thumbnail_key, make_profile_image_key
from app.media.generated_file_store import GeneratedFileStore
from app.media.processing_results import CropBox
from app.media.processor import MediaProcessor
from app.storage.errors import ObjectNotFound
from app.storage.service import StorageService

MAX_PROFILE_BYTES = 64 * MEBIBYTE
MAX_CONCURRENT_PORTRAITS = 2
"""As many are made at a time: this is work for callers who wait, beside the work that is queued."""


class PortraitSourceMissing(Exception):
    """What the portrait would be cut out of is not made yet, or could not be made."""


class PortraitConflict(Exception):
    """Somebody else set the same portrait at the same moment; theirs stays."""


class PortraitService:
    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        processor: MediaProcessor,
        publisher: GeneratedFileStore,
    ) -> None:
        self._catalog = catalog
        self._storage = storage
        self._processor = processor
        self._publisher = publisher
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_PORTRAITS)

    async def set_person_thumbnail(self, owner_id: UUID, person_id: UUID, asset_id: UUID, box: CropBox) -> None:
        """Cut the box out of the asset (of a video: out of its preview) and make it the person's picture; a person that there is not
        is made. Raises `NotFound`, `PortraitSourceMissing`, `PortraitConflict`, `MediaError` and storage errors; then the old picture stays."""
        async with self._slots, self._stage_source(owner_id, asset_id) as (source, format), self._folder() as folder:
            product = await self._processor.make_person_thumbnail(source, format, box, folder)
            person = await self._catalog.persons.get_or_create(owner_id, person_id)
            if person is None:
                raise NotFound("person", [person_id])
            key = make_person_thumbnail_key(owner_id, person_id, product.extension)
            async with self._publisher.store_files(owner_id, [(product, key)]) as [stored]:
                seen = person.thumbnail_file_id
                if not await self._catalog.persons.replace_thumbnail(owner_id, person_id, asset_id, seen, stored):
                    raise PortraitConflict

    async def set_profile_image(self, user_id: UUID, format: MediaFormat, chunks: AsyncIterator[memoryview]) -> None:
        """Make a square of what `chunks` hold and make it the user's profile image. Raises as `set_person_thumbnail`, `ObjectTooLarge`, and what
        `chunks` raise."""
        staging = self._storage.staging
        async with (
            staging.receive(chunks, MAX_PROFILE_BYTES, format.extension) as source,
            self._slots,
            self._folder() as folder,
        ):
            product = await self._processor.make_profile_image(source, format, folder)
            user = await self._catalog.users.get(user_id)
            seen = None if user is None else user.profile_file_id
            key = make_profile_image_key(user_id, product.extension)
            async with self._publisher.store_files(user_id, [(product, key)]) as [stored]:
                if not await self._catalog.persons.replace_profile_image(user_id, seen, stored):
                    raise PortraitConflict

    async def remove_profile_image(self, user_id: UUID) -> None:
        """The user has no profile image any more. Raises `PortraitConflict`."""
        user = await self._catalog.users.get(user_id)
        if user is None or user.profile_file_id is None:
            return
        if not await self._catalog.persons.replace_profile_image(user_id, user.profile_file_id, None):
            raise PortraitConflict

    def _folder(self) -> AbstractAsyncContextManager[Path]:
        return self._storage.staging.temporary_folder()

    @asynccontextmanager
    async def _stage_source(self, owner_id: UUID, asset_id: UUID) -> AsyncIterator[tuple[Path, MediaFormat]]:
        """A local file that shows what the asset shows, and what its name says it is."""
        file = await self._find_source(owner_id, asset_id)
        async with AsyncExitStack() as stack:
            try:
                source = await stack.enter_async_context(self._storage.stage_to_temp(file.path, size=file.size))
            except ObjectNotFound:  # moved since its row was read?
                moved = await self._find_source(owner_id, asset_id)
                if moved.path == file.path:
                    raise
                source = await stack.enter_async_context(self._storage.stage_to_temp(moved.path, size=moved.size))
            format = find_format(file.path)
            if format is None:
                raise PortraitSourceMissing("The asset is of a kind that nothing can be cut out of")
            yield source, format

    async def _find_source(self, owner_id: UUID, asset_id: UUID) -> File:
        pictures = await self._catalog.renditions.get_for_asset(asset_id)
        if pictures is None or pictures.asset.owner_id != owner_id:
            raise NotFound("asset", [asset_id])
        file = pictures.asset.file if pictures.asset.type is AssetType.IMAGE else pictures.files.get(FileKind.PREVIEW)
        if file is None:
            raise PortraitSourceMissing("There is no preview of this video yet that the picture could be cut out of")
        return file
