"""From an original to everything that is made of it: staged once, processed in children, stored, and swapped in.

Done again it makes the same; of two that do it at once one's set stays; broken off at any point it leaves nothing that no row
accounts for.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from pathlib import Path
from uuid import UUID, uuid4

import structlog

from app.catalog.assets.derivatives import ExtractedProperties, FileReplacement
from app.catalog.catalog import Catalog
from app.catalog.errors import ConstraintViolation, NotFound
from app.catalog.schema.records import Asset, AssetType, Derivative, FileKind, NewAsset, StoredFile, Task, Visibility
from app.formats import MediaFormat, find_format
from app.media.errors import DecodeFailed, MediaError
from app.media.generated_file_keys import make_derivative_key, make_motion_video_key
from app.media.generated_file_store import GeneratedFileStore
from app.media.metadata.media_metadata import MediaMetadata
from app.media.processing_results import GeneratedFile, ProcessingResult
from app.media.processor import MediaProcessor
from app.media.range_extraction import extract_range
from app.storage import checksum
from app.storage.errors import ObjectNotFound, StorageError, StorageUnavailable
from app.storage.external import EXTERNAL
from app.storage.service import StorageService

IMAGE_KINDS = (FileKind.THUMBNAIL, FileKind.PREVIEW, FileKind.FULLSIZE)

_log = structlog.get_logger(__name__)


class ProcessingPipeline:
    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        processor: MediaProcessor,
        publisher: GeneratedFileStore,
        *,
        max_transcodes: int,
        on_asset_added: Callable[[UUID], None] | None = None,
    ) -> None:
        """At most `max_transcodes` videos are encoded at once. `on_asset_added` is told of assets that were found inside others."""
        self._catalog = catalog
        self._storage = storage
        self._processor = processor
        self._publisher = publisher
        self._on_asset_added = on_asset_added
        self._transcode_slots = asyncio.Semaphore(max_transcodes)

    async def process(self, task: Task) -> None:
        """Make what the task's asset lacks, and what was made before the task was requested. An asset that is gone, or goes meanwhile,
        wants nothing.

        Raises `MediaError`, `StorageError` and `CatalogError`. Cancelling it ends its child processes before it returns.
        """
        asset = await self._catalog.assets.get(task.asset_id)
        while asset is not None:
            try:
                await self._process(asset, task)
            except (MediaError, StorageError) as error:
                # What waited for its turn, or was half read, may have lost its original to a move of the library: then whatever went wrong
                # says nothing of the file, which is whole at another place.
                now_at = await self._catalog.assets.get(asset.id)
                if now_at is not None and now_at.file.path == asset.file.path:
                    raise
                _log.info("an original moved, or went, while it was processed", asset=str(asset.id), reason=str(error))
                asset = now_at
            else:
                return

    async def _process(self, asset: Asset, task: Task) -> None:
        made = await self._catalog.derivatives.get_for_asset(asset.id)
        format_ = find_format(asset.file.path) or find_format(asset.original_file_name)
        if format_ is None:
            raise DecodeFailed("the name says nothing that can be processed")
        work = _AssetContext(asset, format_, made, task)
        try:
            await self._check_unchanged(asset)
            if asset.file.kind is FileKind.EXTERNAL:
                await self._store_checksums(asset)
            async with (
                self._storage.stage_to_temp(asset.file.path, size=asset.file.size) as source,
                self._storage.staging.temporary_folder() as folder,
            ):
                if asset.type is AssetType.VIDEO:
                    await self._process_video(work, source, folder)
                else:
                    await self._process_photo(work, source, folder)
        except NotFound:
            _log.info("the asset went while it was processed", asset=str(asset.id))
        except ObjectNotFound as error:
            await self._check_mounted(asset, error)
            raise

    async def _check_unchanged(self, asset: Asset) -> None:
        """Whoever renames files gives this one's name to another: the next scan tells which it is, and until then its task waits. Raises
        `StorageUnavailable`."""
        if asset.file.kind is not FileKind.EXTERNAL:
            return
        info = await self._storage.stat(asset.file.path)
        if (info.size, info.last_modified) != (asset.file.size, asset.file_modified_at):
            raise StorageUnavailable(asset.file.path, EXTERNAL, "is not what the last scan found")

    async def _store_checksums(self, asset: Asset) -> None:
        """The checksums of an external original, by which archives that hold it can be resumed."""
        if asset.file.sha1 is not None and asset.file.crc32 is not None:
            return
        sha1, crc32 = hashlib.sha1(usedforsecurity=False), 0
        async with self._storage.read(asset.file.path) as stream:
            async for chunk in stream.chunks:
                sha1.update(chunk)
                crc32 = checksum.crc32(chunk, crc32)
        info = stream.info
        files = self._catalog.library_files
        await files.store_checksums(asset, info.size, info.last_modified, sha1.digest(), crc32)

    async def _check_mounted(self, asset: Asset, error: ObjectNotFound) -> None:
        """An original whose library is not mounted is not lost: its task waits. Raises `StorageUnavailable`."""
        if asset.library_id is not None and asset.library_id in await self._catalog.libraries.get_unmounted():
            raise StorageUnavailable(asset.file.path, error.backend, "its library is not mounted") from error

    async def _process_photo(self, work: _AssetContext, source: Path, folder: Path) -> None:
        if work.lacks_any(FileKind.THUMBNAIL, FileKind.PREVIEW):
            await self._swap_images(work, await self._processor.make_images(source, work.format, folder))
        if work.asset.live_photo_video_id is None:
            await self._extract_motion_video(work, source, folder)

    async def _process_video(self, work: _AssetContext, source: Path, folder: Path) -> None:
        if work.lacks_any(FileKind.THUMBNAIL, FileKind.PREVIEW):
            await self._swap_images(work, await self._processor.make_poster(source, work.format, folder))
        if not work.lacks_any(FileKind.ENCODED_VIDEO):
            return
        async with self._transcode_slots:
            playable = await self._processor.make_playable(source, work.format, folder)
        await self._swap(work, [FileKind.ENCODED_VIDEO], [playable] if playable else [], ExtractedProperties())

    async def _swap_images(self, work: _AssetContext, processed: ProcessingResult) -> None:
        await self._swap(work, IMAGE_KINDS, processed.files, _extract_properties(processed))

    async def _swap(
        self,
        work: _AssetContext,
        kinds: Sequence[FileKind],
        products: Sequence[GeneratedFile],
        findings: ExtractedProperties,
    ) -> None:
        """What is of these kinds afterwards are the products, nothing else."""
        asset = work.asset
        await self._check_unchanged(asset)
        keyed = [
            (product, make_derivative_key(asset.owner_id, asset.id, product.kind, product.extension))
            for product in products
        ]
        async with self._publisher.store_files(asset.owner_id, keyed) as files:
            stored = {product.kind: file for product, file in zip(products, files, strict=True)}
            replacements = [
                FileReplacement(kind, work.current_file_id(kind), stored.get(kind))
                for kind in kinds
                if kind in stored or work.current_file_id(kind) is not None
            ]
            derivatives = self._catalog.derivatives
            if not await derivatives.swap_files(asset.owner_id, asset.id, replacements, findings, work.task.id):
                _log.info("what was made is not wanted any more", asset=str(asset.id), kinds=list(stored))

    async def _extract_motion_video(self, work: _AssetContext, source: Path, folder: Path) -> None:
        """A trailer that cannot be read is no reason to call the photo broken."""
        try:
            part = await self._processor.find_motion_video(source, work.format)
        except MediaError as error:
            if error.retryable:
                raise
            _log.warning("a photo's moving part cannot be read", asset=str(work.asset.id), reason=error.reason)
            return
        if part is None:
            return
        video = folder / "motion.mp4"
        await extract_range(source, part, video)
        await self._check_unchanged(work.asset)
        await self._store_motion_video(work.asset, GeneratedFile(FileKind.MOTION, video, ".mp4", "video/mp4"))

    async def _store_motion_video(self, photo: Asset, product: GeneratedFile) -> None:
        video_id = uuid4()
        key = make_motion_video_key(photo.owner_id, video_id)
        async with self._publisher.store_files(photo.owner_id, [(product, key)]) as (file,):
            new = NewAsset(
                id=video_id,
                owner_id=photo.owner_id,
                type=AssetType.VIDEO,
                checksum=file.sha1,
                original_file_name=f"{Path(photo.original_file_name).stem}.mp4",
                file_created_at=photo.file_created_at,
                file_modified_at=photo.file_modified_at,
                local_date_time=photo.local_date_time,
                visibility=Visibility.HIDDEN,
            )
            await self._link_motion_video(photo, new, file)

    async def _link_motion_video(self, photo: Asset, new: NewAsset, file: StoredFile) -> None:
        try:
            video_id = await self._catalog.motion_photo_videos.link_video(photo.id, new, file)
            if video_id == new.id and self._on_asset_added is not None:
                self._on_asset_added(new.id)
        except ConstraintViolation:
            _log.warning("a photo's moving part is there already, but not as a video", asset=str(photo.id))


class _AssetContext:
    """One asset, and what had been made of it when the work began."""

    def __init__(self, asset: Asset, format_: MediaFormat, made: Mapping[FileKind, Derivative], task: Task) -> None:
        self.asset = asset
        self.format = format_
        self.task = task
        self._derivatives = made

    def lacks_any(self, *kinds: FileKind) -> bool:
        """True unless an earlier attempt at the same task has made all of them."""
        files = [self._derivatives[kind].file for kind in kinds if kind in self._derivatives]
        return len(files) < len(kinds) or any(file.created_at < self.task.requested_at for file in files)

    def current_file_id(self, kind: FileKind) -> UUID | None:
        return self._derivatives[kind].file.id if kind in self._derivatives else None


def _extract_properties(processed: ProcessingResult) -> ExtractedProperties:
    findings = ExtractedProperties(
        width=processed.width,
        height=processed.height,
        thumbhash=processed.thumbhash,
        exif=processed.metadata.to_json(),
    )
    if processed.duration is not None:
        findings["duration"] = processed.duration
    return findings | _extract_capture_time(processed.metadata)


def _extract_capture_time(metadata: MediaMetadata) -> ExtractedProperties:
    """A clock without a zone counts as UTC, as in Immich: nobody knows where it was."""
    taken_at = metadata.taken_at
    if taken_at is None:
        return ExtractedProperties()
    local = taken_at.replace(tzinfo=UTC)
    return ExtractedProperties(taken_at=taken_at if taken_at.tzinfo else local, taken_at_local=local)
