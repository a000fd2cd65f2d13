"""Processes one asset: stages its original, makes derivatives and metadata in sandboxed processes, stores them, swaps them in.

Processing is idempotent. Of two concurrent runs for one asset, the files of one stay. An interruption at any point leaves no object
without a row.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from uuid import UUID, uuid4

import structlog

from app.catalog.assets.derivatives import ExtractedProperties, FileReplacement
from app.catalog.catalog import Catalog
from app.catalog.errors import ConstraintViolation, NotFound
from app.catalog.schema.records import Asset, AssetType, Derivative, FileKind, NewAsset, StoredFile, Task, Visibility
from app.catalog.tasks import MISSING_ONLY
from app.formats import MediaFormat, MediaKind, find_format
from app.media.errors import DecodeFailed, MediaError
from app.media.extracted_properties import complete_properties, get_damage
from app.media.generated_file_keys import make_derivative_key, make_motion_video_key
from app.media.generated_file_store import GeneratedFileStore
from app.media.processing_results import GeneratedFile, MetadataResult, ProcessingResult
from app.media.processor import MediaProcessor
from app.media.range_extraction import extract_range
from app.media.sidecar_staging import SidecarStager
from app.storage.crc32 import crc32
from app.storage.errors import ObjectNotFound, StorageError, StorageUnavailable
from app.storage.external import EXTERNAL
from app.storage.ranges import ByteRange
from app.storage.service import StorageService

IMAGE_KINDS = (FileKind.THUMBNAIL, FileKind.PREVIEW, FileKind.FULLSIZE)

_log = structlog.get_logger(__name__)


class ProcessingPipeline:
    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        processor: MediaProcessor,
        file_store: GeneratedFileStore,
        *,
        max_transcodes: int,
        on_asset_added: Callable[[UUID], None] | None = None,
    ) -> None:
        """At most `max_transcodes` videos are encoded at once. `on_asset_added` is called with the id of each motion video that became an asset."""
        self._catalog = catalog
        self._storage = storage
        self._processor = processor
        self._file_store = file_store
        self._sidecars = SidecarStager(catalog, storage)
        self._on_asset_added = on_asset_added
        self._transcode_slots = asyncio.Semaphore(max_transcodes)

    async def process(self, task: Task) -> None:
        """Make the derivatives that the task's asset lacks or that are older than the task's request. An asset that was deleted, also
        meanwhile, is skipped without an error.

        Raises `MediaError`, `StorageError` and `CatalogError`. After cancellation, all child processes have ended before it returns.
        """
        asset = await self._catalog.assets.get(task.asset_id)
        while asset is not None:
            try:
                await self._process(asset, task)
            except (MediaError, StorageError) as error:
                # The original may have been renamed, moved or deleted while the task waited or read it. Then the error says nothing about
                # the file, which is intact at its new path.
                current = await self._catalog.assets.get(asset.id)
                if current is not None and current.file.path == asset.file.path:
                    raise
                _log.info(
                    "an original was moved or deleted while it was processed", asset=str(asset.id), reason=str(error)
                )
                asset = current
            else:
                return

    async def _process(self, asset: Asset, task: Task) -> None:
        existing = await self._catalog.derivatives.get_for_asset(asset.id)
        format_ = find_format(asset.file.path) or find_format(asset.original_file_name)
        if format_ is None:
            raise DecodeFailed("the name says nothing that can be processed")
        try:
            await self._check_unchanged(asset)
            if asset.file.kind is FileKind.EXTERNAL or asset.file.is_foreign:
                await self._store_checksums(asset)
            if _AssetContext(asset, format_, existing, task).is_complete:
                return
            async with (
                self._storage.stage_to_temp(asset.file.path, size=asset.file.size) as source,
                self._storage.staging.temporary_folder() as folder,
            ):
                format_ = await self._processor.detect_format(source, format_)
                asset = await self._correct_type(asset, format_, task)
                context = _AssetContext(asset, format_, existing, task)
                if asset.type is AssetType.VIDEO:
                    await self._process_video(context, source, folder)
                else:
                    await self._process_photo(context, source, folder)
        except NotFound:
            _log.info("the asset was deleted while it was processed", asset=str(asset.id))
        except ObjectNotFound as error:
            await self._check_mounted(asset, error)
            raise

    async def _correct_type(self, asset: Asset, format_: MediaFormat, task: Task) -> Asset:
        """The asset with the type of its content, also in the catalogue. The file of a library has that of its name until now."""
        type_ = AssetType.VIDEO if format_.kind is MediaKind.VIDEO else AssetType.IMAGE
        if type_ is asset.type:
            return asset
        await self._check_unchanged(asset)
        await self._catalog.content_types.correct(asset, type_, format_.mime_type, task.id)
        file = replace(asset.file, mime_type=format_.mime_type)
        return replace(asset, type=type_, file=file, live_photo_video_id=None)

    async def _check_unchanged(self, asset: Asset) -> None:
        """Check that an external original has the size and time of the last scan. A user may have renamed another file to its path; the
        next scan finds out, and until then the task is retried. Raises `StorageUnavailable`."""
        if asset.file.kind is not FileKind.EXTERNAL:
            return
        info = await self._storage.stat(asset.file.path)
        if (info.size, info.last_modified) != (asset.file.size, asset.file_modified_at):
            raise StorageUnavailable(asset.file.path, EXTERNAL, "is not what the last scan found")

    async def _store_checksums(self, asset: Asset) -> None:
        """Compute and store SHA-1 and CRC-32 of an external or foreign original. Archives need them to be resumable. Raises `DecodeFailed` where
        the SHA-1 of a foreign one is not that which was taken over with it."""
        if asset.file.sha1 is not None and asset.file.crc32 is not None:
            return
        sha1, digest = hashlib.sha1(usedforsecurity=False), 0
        async with self._storage.read(asset.file.path) as stream:
            async for chunk in stream.chunks:
                sha1.update(chunk)
                digest = crc32(chunk, digest)
        info = stream.info
        if asset.file.is_foreign:
            file = asset.file
            await self._catalog.foreign_files.store_checksums(file.id, file.path, info.size, sha1.digest(), digest)
            if file.sha1 not in (None, sha1.digest()):
                raise DecodeFailed("the bytes are not those that Immich took in: the SHA-1 differs")
            return
        files = self._catalog.library_files
        await files.store_checksums(asset, info.size, info.last_modified, sha1.digest(), digest)

    async def _check_mounted(self, asset: Asset, error: ObjectNotFound) -> None:
        """Raises `StorageUnavailable`, which is retried, if the original's library is not mounted: then the file is not lost."""
        if asset.library_id is not None and asset.library_id in await self._catalog.libraries.get_unmounted():
            raise StorageUnavailable(asset.file.path, error.backend, "its library is not mounted") from error

    async def _process_photo(self, context: _AssetContext, source: Path, folder: Path) -> None:
        if context.current_file_id(FileKind.ENCODED_VIDEO) is not None:  # the original was a video before
            await self._swap(context, [FileKind.ENCODED_VIDEO], [], ExtractedProperties())
        await self._store_images_and_metadata(context, source, folder, self._processor.make_images)
        await self._extract_motion_video(context, source, folder)

    async def _process_video(self, context: _AssetContext, source: Path, folder: Path) -> None:
        await self._store_images_and_metadata(context, source, folder, self._processor.make_poster)
        if not context.lacks_any(FileKind.ENCODED_VIDEO):
            return
        async with self._transcode_slots:
            playable = await self._processor.make_playable(source, context.format, folder)
        await self._swap(context, [FileKind.ENCODED_VIDEO], [playable] if playable else [], ExtractedProperties())

    async def _store_images_and_metadata(
        self,
        context: _AssetContext,
        source: Path,
        folder: Path,
        make_images: Callable[[Path, MediaFormat, Path], Awaitable[ProcessingResult]],
    ) -> None:
        """Store the metadata, and the pictures if they are missing, in one transaction. If one of the two fails, the other is stored before
        the error is raised."""
        properties, files, kinds = ExtractedProperties(), (), ()
        if context.format.mime_type != context.asset.file.mime_type:
            properties["mime_type"] = context.format.mime_type
        failure: MediaError | StorageError | None = None
        damage = get_damage(context.asset)
        try:
            if not context.is_completion or context.asset.exif is None:
                properties |= await self._read_metadata(context, source, folder)
        except (MediaError, StorageError) as error:
            failure = error
        lacks_pictures = context.lacks_any(FileKind.THUMBNAIL, FileKind.PREVIEW)
        if lacks_pictures or context.lacks_thumbhash:
            damage = None
            try:
                processed = await make_images(source, context.format, folder)
            except MediaError as error:
                failure = error
            else:
                damage = processed.damage
                if damage is not None:
                    _log.warning("an original is damaged, but can be shown", asset=str(context.asset.id), reason=damage)
                kinds = context.list_kinds_to_make(IMAGE_KINDS) if lacks_pictures else ()
                files = tuple(file for file in processed.files if file.kind in kinds)
                properties |= (
                    _extract_picture(processed)
                    if lacks_pictures
                    else ExtractedProperties(thumbhash=processed.thumbhash)
                )
        if kinds or properties:
            await self._swap(context, kinds, files, complete_properties(context.asset, properties, damage))
        if failure is not None:
            raise failure

    async def _read_metadata(self, context: _AssetContext, source: Path, folder: Path) -> ExtractedProperties:
        sidecar = await self._sidecars.stage_sidecar(context.asset, folder)
        read = await self._processor.read_metadata(source, context.format, sidecar.path)
        context.inspected = read
        properties = _extract_metadata(read, sidecar.error)
        if sidecar.path is not None and await self._catalog.derivatives.has_unrecorded_edits(context.asset.id):
            of_file = await self._processor.read_metadata(source, context.format)
            properties["exif_of_file"] = of_file.metadata.to_json()
        return properties

    async def _swap(
        self,
        context: _AssetContext,
        kinds: Sequence[FileKind],
        products: Sequence[GeneratedFile],
        properties: ExtractedProperties,
    ) -> None:
        """Store `products` and make them the only derivatives of these `kinds`."""
        asset = context.asset
        await self._check_unchanged(asset)
        keyed = [
            (product, make_derivative_key(asset.owner_id, asset.id, product.kind, product.extension))
            for product in products
        ]
        async with self._file_store.store_files(asset.owner_id, keyed) as files:
            stored = {product.kind: file for product, file in zip(products, files, strict=True)}
            replacements = [
                FileReplacement(kind, context.current_file_id(kind), stored.get(kind))
                for kind in kinds
                if kind in stored or context.current_file_id(kind) is not None
            ]
            derivatives = self._catalog.derivatives
            if not await derivatives.swap_files(asset.owner_id, asset.id, replacements, properties, context.task.id):
                _log.info(
                    "generated files were discarded: the original has changed, or another attempt was faster",
                    asset=str(asset.id),
                    kinds=list(stored),
                )

    async def _extract_motion_video(self, context: _AssetContext, source: Path, folder: Path) -> None:
        """Store a motion photo's video as an asset of its own, in place of that of former content. A damaged video is logged and skipped, so that
        the photo does not fail."""
        photo = context.asset
        if context.is_completion:
            return
        former = await self._find_former_video(photo)
        if photo.live_photo_video_id is not None and former is None:
            return
        try:
            video_range = await self._find_motion_video(context, source)
        except MediaError as error:
            if error.retryable:
                raise
            _log.warning("the video of a motion photo cannot be read", asset=str(photo.id), reason=error.reason)
            video_range = None
        video = folder / "motion.mp4"
        if video_range is not None:
            await extract_range(source, video_range, video)
        await self._check_unchanged(photo)
        if former is not None:
            if video_range is not None and await asyncio.to_thread(_compute_sha1, video) == former.checksum:
                return
            await self._catalog.motion_photo_videos.remove_video(photo, former.id)
        if video_range is not None:
            await self._store_motion_video(photo, GeneratedFile(FileKind.MOTION, video, ".mp4", "video/mp4"))

    async def _find_former_video(self, photo: Asset) -> Asset | None:
        """The video that was taken out of the photo before, if the photo may have changed since: the file of a library."""
        if photo.live_photo_video_id is None or photo.file.kind is not FileKind.EXTERNAL:
            return None
        video = await self._catalog.assets.get(photo.live_photo_video_id)
        return video if video is not None and video.file.kind is FileKind.MOTION else None

    async def _find_motion_video(self, context: _AssetContext, source: Path) -> ByteRange | None:
        if context.inspected is not None and context.inspected.is_motion_known:
            return context.inspected.motion_video
        return await self._processor.find_motion_video(source, context.format)

    async def _store_motion_video(self, photo: Asset, product: GeneratedFile) -> None:
        video_id = uuid4()
        key = make_motion_video_key(photo.owner_id, video_id)
        async with self._file_store.store_files(photo.owner_id, [(product, key)]) as (file,):
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
            _log.warning(
                "the video of a motion photo was not stored: an asset with its checksum exists and is no video",
                asset=str(photo.id),
            )


class _AssetContext:
    """One asset, and its derivatives at the beginning of the run."""

    def __init__(self, asset: Asset, format_: MediaFormat, existing: Mapping[FileKind, Derivative], task: Task) -> None:
        self.asset = asset
        self.format = format_
        self.task = task
        self.inspected: MetadataResult | None = None
        self._derivatives = existing

    @property
    def is_completion(self) -> bool:
        """Whether only what is missing is made, of an asset that came from another program."""
        return self.task.requested_at <= MISSING_ONLY

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing to be made for such an asset. Whether a video needs a playable one is known only when it has been read."""
        kinds = [FileKind.THUMBNAIL, FileKind.PREVIEW]
        if self.asset.type is AssetType.VIDEO:
            kinds.append(FileKind.ENCODED_VIDEO)
        is_described = self.asset.exif is not None and not self.lacks_thumbhash
        return self.is_completion and is_described and not self.lacks_any(*kinds)

    @property
    def lacks_thumbhash(self) -> bool:
        """Whether such an asset has none, whatever pictures it has."""
        return self.is_completion and self.asset.thumbhash is None

    def list_kinds_to_make(self, kinds: Sequence[FileKind]) -> tuple[FileKind, ...]:
        """All of them, or those that are missing."""
        return tuple(kind for kind in kinds if not self.is_completion or self.current_file_id(kind) is None)

    def lacks_any(self, *kinds: FileKind) -> bool:
        """False only if all of these kinds exist and are newer than the task's request, made by an earlier attempt."""
        files = [self._derivatives[kind].file for kind in kinds if kind in self._derivatives]
        return len(files) < len(kinds) or any(file.created_at < self.task.requested_at for file in files)

    def current_file_id(self, kind: FileKind) -> UUID | None:
        return self._derivatives[kind].file.id if kind in self._derivatives else None


def _compute_sha1(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.sha1(usedforsecurity=False)).digest()


def _extract_picture(processed: ProcessingResult) -> ExtractedProperties:
    properties = ExtractedProperties(width=processed.width, height=processed.height, thumbhash=processed.thumbhash)
    if processed.duration is not None:
        properties["duration"] = processed.duration
    return properties


def _extract_metadata(read: MetadataResult, sidecar_error: str | None) -> ExtractedProperties:
    """A capture time without a zone counts as UTC, as in Immich."""
    properties = ExtractedProperties(exif=read.metadata.to_json(), sidecar_error=sidecar_error or read.sidecar_error)
    taken_at = read.metadata.taken_at
    if taken_at is not None:
        local = taken_at.replace(tzinfo=UTC)
        properties |= ExtractedProperties(taken_at=taken_at if taken_at.tzinfo else local, taken_at_local=local)
    return properties
