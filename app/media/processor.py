"""The one entrance to media: originals in, derivatives and metadata out, every file in a child process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from app.catalog.schema.records import FileKind
from app.config import Settings
from app.formats import MediaFormat, MediaKind
from app.media.photo_processor import PhotoProcessor
from app.media.processing_results import CropBox, GeneratedFile, ProcessingResult
from app.media.sandbox.sandbox import Sandbox
from app.media.video_processor import VideoProcessor
from app.storage.ranges import ByteRange


class MediaProcessor:
    """Every method reads `source`, a local file (or an open one, by its name in `/proc/self/fd`), and writes only into `folder`, a private folder that the caller makes and
    removes; both are absolute. `format` is what the original's name says; what the file is, is decided by its content.

    All raise `MediaError`. Cancelling one ends its processes, and all that those started, before it returns.
    """

    def __init__(self, settings: Settings) -> None:
        self._sandbox = Sandbox()
        self._photos = PhotoProcessor(self._sandbox, settings)
        self._videos = VideoProcessor(self._sandbox, self._photos, settings)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The processor, ready for work."""
        async with self._sandbox.running():
            await self._videos.locate_ffmpeg()
            yield self

    async def check_ffmpeg(self) -> None:
        """Raises `MissingTool` where ffmpeg is not installed."""
        self._videos.require_ffmpeg()

    async def make_images(self, source: Path, format: MediaFormat, folder: Path) -> ProcessingResult:
        """Of a photo: preview, thumbnail, and a full-size JPEG where browsers do not show the original."""
        return await self._photos.make_images(source, format, folder)

    async def make_poster(self, source: Path, format: MediaFormat, folder: Path) -> ProcessingResult:
        """Of a video: preview and thumbnail of one of its first frames that are not black."""
        return await self._videos.make_poster(source, format, folder)

    async def make_playable(self, source: Path, format: MediaFormat, folder: Path) -> GeneratedFile | None:
        """A video that browsers play; None where they play the original as it is."""
        return await self._videos.make_playable(source, format, folder)

    async def make_person_thumbnail(
        self, source: Path, format: MediaFormat, box: CropBox, folder: Path
    ) -> GeneratedFile:
        """A square JPEG, 250 pixels wide, around the middle of the box; of a video, from its poster."""
        return await self._square(source, format, box, folder, FileKind.PERSON)

    async def make_profile_image(self, source: Path, format: MediaFormat, folder: Path) -> GeneratedFile:
        """A square JPEG, 250 pixels wide, of the middle of the picture."""
        return await self._square(source, format, None, folder, FileKind.PROFILE)

    async def find_motion_video(self, source: Path, format: MediaFormat) -> ByteRange | None:
        """Where in a motion photo its video (an MP4) is; None where there is none."""
        return None if format.kind is MediaKind.VIDEO else await self._photos.find_motion_video(source, format)

    async def _square(
        self, source: Path, format: MediaFormat, box: CropBox | None, folder: Path, kind: FileKind
    ) -> GeneratedFile:
        if format.kind is MediaKind.VIDEO:
            poster = await self._videos.make_poster(source, format, folder)
            preview = next(product for product in poster.files if product.kind is FileKind.PREVIEW)
            return await self._photos.make_square_of_jpeg(preview.path, box, folder, kind)
        return await self._photos.make_square(source, format, box, folder, kind)
