"""The one entrance to media: originals in, derivatives and metadata out, every file in a child process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from app.catalog.records import FileKind
from app.config import Settings
from app.formats import Format, Kind
from app.media.photos import Photos
from app.media.products import Box, Processed, Product
from app.media.sandbox import Sandbox
from app.media.videos import Videos
from app.storage.ranges import ByteRange


class Processor:
    """Every method reads `source`, a local file (or an open one, by its name in `/proc/self/fd`), and writes only into `folder`, a private folder that the caller makes and
    removes; both are absolute. `format` is what the original's name says; what the file is, is decided by its content.

    All raise `MediaError`. Cancelling one ends its processes, and all that those started, before it returns.
    """

    def __init__(self, settings: Settings) -> None:
        self._sandbox = Sandbox()
        self._photos = Photos(self._sandbox, settings)
        self._videos = Videos(self._sandbox, self._photos, settings)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The processor, ready for work."""
        async with self._sandbox.running():
            await self._videos.find_programs()
            yield self

    async def check(self) -> None:
        """Raises `MissingTool` where ffmpeg is not installed."""
        self._videos.programs()

    async def make_images(self, source: Path, format: Format, folder: Path) -> Processed:
        """Of a photo: preview, thumbnail, and a full-size JPEG where browsers do not show the original."""
        return await self._photos.make_images(source, format, folder)

    async def make_poster(self, source: Path, format: Format, folder: Path) -> Processed:
        """Of a video: preview and thumbnail of one of its first frames that are not black."""
        return await self._videos.make_poster(source, format, folder)

    async def make_playable(self, source: Path, format: Format, folder: Path) -> Product | None:
        """A video that browsers play; None where they play the original as it is."""
        return await self._videos.make_playable(source, format, folder)

    async def make_person_thumbnail(self, source: Path, format: Format, box: Box, folder: Path) -> Product:
        """A square JPEG, 250 pixels wide, around the middle of the box; of a video, from its poster."""
        return await self._square(source, format, box, folder, FileKind.PERSON)

    async def make_profile_image(self, source: Path, format: Format, folder: Path) -> Product:
        """A square JPEG, 250 pixels wide, of the middle of the picture."""
        return await self._square(source, format, None, folder, FileKind.PROFILE)

    async def find_motion(self, source: Path, format: Format) -> ByteRange | None:
        """Where in a motion photo its video (an MP4) is; None where there is none."""
        return None if format.kind is Kind.VIDEO else await self._photos.find_motion(source, format)

    async def _square(self, source: Path, format: Format, box: Box | None, folder: Path, kind: FileKind) -> Product:
        if format.kind is Kind.VIDEO:
            poster = await self._videos.make_poster(source, format, folder)
            preview = next(product for product in poster.products if product.kind is FileKind.PREVIEW)
            return await self._photos.make_square_of_jpeg(preview.path, box, folder, kind)
        return await self._photos.make_square(source, format, box, folder, kind)
