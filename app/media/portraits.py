"""Portraits: the thumbnail of a person, cropped from an asset, and the profile image of a user, cropped from an uploaded picture.

They are made during the request, in the media sandbox, not by background tasks. The new file replaces the old one in one transaction.
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
"""Portraits that are made at once. They run beside the background tasks, because their callers wait."""


class PortraitSourceMissing(Exception):
    """The picture to crop does not exist: it is not made yet, or could not be made."""


class PortraitConflict(Exception):
    """A concurrent request replaced the same portrait; its portrait stays."""


class PortraitService:
    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        processor: MediaProcessor,
        file_store: GeneratedFileStore,
    ) -> None:
        self._catalog = catalog
        self._storage = storage
        self._processor = processor
        self._file_store = file_store
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_PORTRAITS)

    async def set_person_thumbnail(self, owner_id: UUID, person_id: UUID, asset_id: UUID, box: CropBox) -> None:
        """Crop the box out of the asset (of a video: out of its preview) and make the crop the person's thumbnail. Creates the person if
        it does not exist. Raises `NotFound`, `PortraitSourceMissing`, `PortraitConflict`, `MediaError` and storage errors; after an error the old
        thumbnail stays."""
        async with self._slots, self._stage_source(owner_id, asset_id) as (source, format), self._folder() as folder:
            product = await self._processor.make_person_thumbnail(source, format, box, folder)
            person = await self._catalog.persons.get_or_create(owner_id, person_id)
            if person is None:
                raise NotFound("person", [person_id])
            key = make_person_thumbnail_key(owner_id, person_id, product.extension)
            async with self._file_store.store_files(owner_id, [(product, key)]) as [stored]:
                previous_id = person.thumbnail_file_id
                if not await self._catalog.persons.replace_thumbnail(
                    owner_id, person_id, asset_id, previous_id, stored
                ):
                    raise PortraitConflict

    async def set_profile_image(self, user_id: UUID, format: MediaFormat, chunks: AsyncIterator[memoryview]) -> None:
        """Crop the picture in `chunks` to a square and make it the user's profile image. Raises the errors of `set_person_thumbnail`,
        `ObjectTooLarge`, and the errors of `chunks`."""
        staging = self._storage.staging
        async with (
            staging.receive(chunks, MAX_PROFILE_BYTES, format.extension) as source,
            self._slots,
            self._folder() as folder,
        ):
            product = await self._processor.make_profile_image(source, format, folder)
            user = await self._catalog.users.get(user_id)
            previous_id = None if user is None else user.profile_file_id
            key = make_profile_image_key(user_id, product.extension)
            async with self._file_store.store_files(user_id, [(product, key)]) as [stored]:
                if not await self._catalog.persons.replace_profile_image(user_id, previous_id, stored):
                    raise PortraitConflict

    async def remove_profile_image(self, user_id: UUID) -> None:
        """Raises `PortraitConflict`."""
        user = await self._catalog.users.get(user_id)
        if user is None or user.profile_file_id is None:
            return
        if not await self._catalog.persons.replace_profile_image(user_id, user.profile_file_id, None):
            raise PortraitConflict

    def _folder(self) -> AbstractAsyncContextManager[Path]:
        return self._storage.staging.temporary_folder()

    @asynccontextmanager
    async def _stage_source(self, owner_id: UUID, asset_id: UUID) -> AsyncIterator[tuple[Path, MediaFormat]]:
        """A local copy of the asset's original (of a video: of its preview), and its format."""
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
            yield source, await self._processor.detect_format(source, format)

    async def _find_source(self, owner_id: UUID, asset_id: UUID) -> File:
        renditions = await self._catalog.renditions.get_for_asset(asset_id)
        if renditions is None or renditions.asset.owner_id != owner_id:
            raise NotFound("asset", [asset_id])
        file = (
            renditions.asset.file
            if renditions.asset.type is AssetType.IMAGE
            else renditions.files.get(FileKind.PREVIEW)
        )
        if file is None:
            raise PortraitSourceMissing("There is no preview of this video yet that the picture could be cut out of")
        return file
