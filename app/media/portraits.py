"""Portraits: the one picture of a person, cut out of an asset, and the profile image of a user, which is sent.

Made while the caller waits, in the same sandbox as everything else, and kept as derivatives are: the new file takes the place of the
old one in one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from uuid import UUID, uuid4

from app.catalog.catalog import Catalog
from app.catalog.errors import FileGone, NotFound
from app.catalog.records import AssetType, File, FileKind, StoredFile
from app.config import MEBIBYTE
from app.formats import Format, supported
from app.media.processor import Processor
from app.media.products import Box, Product
from app.storage.errors import ObjectNotFound
from app.storage.key import Key
from app.storage.service import StorageService

MAX_PROFILE_BYTES = 64 * MEBIBYTE
AT_ONCE = 2
"""As many are made at a time: this is work for callers who wait, beside the work that is queued."""
LEASE = timedelta(minutes=15)
LATE_EFFECT_GRACE = timedelta(minutes=15)
"""A store that did not answer may still carry out what it was asked: the sweeper comes only after that."""


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
        admit_write: Callable[[], Awaitable[None]],
    ) -> None:
        """`admit_write` raises a storage error while nothing may be written."""
        self._catalog = catalog
        self._storage = storage
        self._processor = processor
        self._admit_write = admit_write
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def show_person(self, owner_id: UUID, person_id: UUID, asset_id: UUID, box: Box) -> None:
        """Cut the box out of the asset (of a video: out of its preview) and make it the person's picture; a person that there is not
        is made. Raises `NotFound`, `NotReady`, `ChangedMeanwhile`, `MediaError` and storage errors; then the old picture stays."""
        await self._admit_write()
        async with self._turns, self._original(owner_id, asset_id) as (source, format), self._folder() as folder:
            product = await self._processor.make_person_thumbnail(source, format, box, folder)
            person = await self._catalog.persons.ensure(owner_id, person_id)
            if person is None:
                raise NotFound("person", [person_id])
            name = f"{person_id}_person_{token_hex(4)}{product.extension}"
            seen = person.thumbnail_file_id
            await self._keep(
                owner_id,
                FileKind.PERSON,
                product,
                f"thumbs/{owner_id}/{name[:2]}/{name[2:4]}/{name}",
                lambda stored: self._catalog.persons.show(owner_id, person_id, asset_id, seen, stored),
            )

    async def show_user(self, user_id: UUID, format: Format, chunks: AsyncIterator[memoryview]) -> None:
        """Make a square of what `chunks` hold and make it the user's profile image. Raises as `show_person`, `ObjectTooLarge`, and what
        `chunks` raise."""
        await self._admit_write()
        staging = self._storage.staging
        async with (
            staging.received(chunks, MAX_PROFILE_BYTES, format.extension) as source,
            self._turns,
            self._folder() as folder,
        ):
            product = await self._processor.make_profile_image(source, format, folder)
            user = await self._catalog.users.get(user_id)
            seen = None if user is None else user.profile_file_id
            await self._keep(
                user_id,
                FileKind.PROFILE,
                product,
                f"profile/{user_id}/{uuid4()}{product.extension}",
                lambda stored: self._catalog.persons.show_user(user_id, seen, stored),
            )

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

    async def _keep(
        self, owner_id: UUID, kind: FileKind, product: Product, key: str, swap: Callable[[StoredFile], Awaitable[bool]]
    ) -> None:
        """Store what was made, and let it be referred to. Whatever fails, the sweeper gets what was stored."""
        files = self._catalog.files
        path = self._storage.managed_path(Key(key))
        row = await files.begin(owner_id, kind, path, product.mime_type, LEASE)
        try:
            uploaded = await self._storage.upload_from_temp(product.path, path, content_type=product.mime_type)
            kept = await swap(StoredFile(row.id, uploaded.size, uploaded.sha1, uploaded.crc32))
        except FileGone:
            await files.bury(row)
            raise
        except BaseException:
            await files.doom(row.id, LATE_EFFECT_GRACE)
            raise
        if not kept:
            raise ChangedMeanwhile
