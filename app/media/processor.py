"""The one entrance to media: originals in, derivatives and metadata out, every file in a child process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from app.config import Settings
from app.formats import Format
from app.media.products import Box, Processed, Product
from app.storage.ranges import ByteRange


class Processor:
    """Every method reads `source`, a local file, and writes only into `folder`, a private folder that the caller makes and
    removes. `format` is what the original's name says; what the file is, is decided by its content.

    All raise `MediaError`. Cancelling one ends its processes, and all that those started, before it returns.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The processor, ready for work."""
        yield self

    async def make_images(self, source: Path, format: Format, folder: Path) -> Processed:
        """Of a photo: preview, thumbnail, and a full-size JPEG where browsers do not show the original."""
        raise NotImplementedError

    async def make_poster(self, source: Path, format: Format, folder: Path) -> Processed:
        """Of a video: preview and thumbnail of one of its first frames."""
        raise NotImplementedError

    async def make_playable(self, source: Path, format: Format, folder: Path) -> Product | None:
        """A video that browsers play; None where they play the original as it is."""
        raise NotImplementedError

    async def make_person_thumbnail(self, source: Path, format: Format, box: Box, folder: Path) -> Product:
        """A square JPEG, 250 pixels wide, around the middle of the box."""
        raise NotImplementedError

    async def make_profile_image(self, source: Path, format: Format, folder: Path) -> Product:
        """A square JPEG of the middle of the picture."""
        raise NotImplementedError

    async def find_motion(self, source: Path, format: Format) -> ByteRange | None:
        """Where in a motion photo its video (an MP4) is; None where there is none."""
        raise NotImplementedError
