"""`MediaProcessor`: makes derivatives and metadata from an original, each in a sandboxed child process. Knows neither catalogue nor storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from app.catalog.schema.records import FileKind
from app.config import Settings
from app.formats import MediaFormat, MediaKind
from app.media.photo_processor import PhotoProcessor, detect_media_format
from app.media.processing_results import CropBox, GeneratedFile, MetadataResult, ProcessingResult
from app.media.sandbox.sandbox import Sandbox
from app.media.video_processor import VideoProcessor
from app.storage.ranges import ByteRange


class MediaProcessor:
    """Facade of photo and video processing.

    Every method reads `source`, the absolute path of a local file or of an open descriptor (`/proc/self/fd/…`), and writes only into `folder`,
    an absolute path that the caller creates and removes. `format` is the format by the original's name; the content decides.

    All raise `MediaError`. After cancellation of a method, its processes and their descendants have ended before it returns.
    """

    def __init__(self, settings: Settings) -> None:
        self._sandbox = Sandbox()
        self._photos = PhotoProcessor(self._sandbox, settings)
        self._videos = VideoProcessor(self._sandbox, self._photos, settings)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Locates ffmpeg; stops the sandbox at the end."""
        async with self._sandbox.running():
            await self._videos.locate_ffmpeg()
            yield self

    async def check_ffmpeg(self) -> None:
        """Raises `MissingTool` where ffmpeg is not installed."""
        self._videos.require_ffmpeg()

    async def detect_format(self, source: Path, named: MediaFormat) -> MediaFormat:
        """The format of the content if it is recognised, also if it is of another kind (photo, video) than `named`; otherwise `named`."""
        return await detect_media_format(source, named)

    async def read_metadata(self, source: Path, format: MediaFormat, sidecar: Path | None = None) -> MetadataResult:
        """Metadata of a photo or video, also of one that cannot be decoded. `sidecar` is the absolute path of an XMP file."""
        if format.kind is MediaKind.VIDEO:
            return await self._videos.read_metadata(source, format, sidecar)
        return await self._photos.read_metadata(source, format, sidecar)

    async def make_images(self, source: Path, format: MediaFormat, folder: Path) -> ProcessingResult:
        """Preview and thumbnail of a photo, and a full-size JPEG if browsers cannot show the original."""
        return await self._photos.make_images(source, format, folder)

    async def make_poster(self, source: Path, format: MediaFormat, folder: Path) -> ProcessingResult:
        """Preview and thumbnail of a video, from one of its first frames that are not black."""
        return await self._videos.make_poster(source, format, folder)

    async def make_playable(self, source: Path, format: MediaFormat, folder: Path) -> GeneratedFile | None:
        """An MP4 that browsers play; None if they play the original unchanged."""
        return await self._videos.make_playable(source, format, folder)

    async def make_person_thumbnail(
        self, source: Path, format: MediaFormat, box: CropBox, folder: Path
    ) -> GeneratedFile:
        """A square JPEG, 250 pixels wide, around the middle of the box. Of a video, the poster is cropped."""
        return await self._square(source, format, box, folder, FileKind.PERSON)

    async def make_profile_image(self, source: Path, format: MediaFormat, folder: Path) -> GeneratedFile:
        """A square JPEG, 250 pixels wide, of the middle of the picture."""
        return await self._square(source, format, None, folder, FileKind.PROFILE)

    async def find_motion_video(self, source: Path, format: MediaFormat) -> ByteRange | None:
        """The byte range of the MP4 inside a motion photo; None if the photo has none."""
        return None if format.kind is MediaKind.VIDEO else await self._photos.find_motion_video(source, format)

    async def _square(
        self, source: Path, format: MediaFormat, box: CropBox | None, folder: Path, kind: FileKind
    ) -> GeneratedFile:
        if format.kind is MediaKind.VIDEO:
            poster = await self._videos.make_poster(source, format, folder)
            preview = next(product for product in poster.files if product.kind is FileKind.PREVIEW)
            return await self._photos.make_square_of_jpeg(preview.path, box, folder, kind)
        return await self._photos.make_square(source, format, box, folder, kind)
