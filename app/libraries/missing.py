"""The files that a scan did not find: another look at each, and the trash for those that are gone, unless too much is.

Of each only the id is kept, for a library may lose hundreds of thousands.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from enum import Enum
from pathlib import Path
from uuid import UUID

from app.catalog.catalog import Catalog
from app.catalog.library_records import Library
from app.libraries import guard
from app.libraries.exclusions import Exclusions
from app.libraries.walk import Walk

GONE_BATCH = 500
_ID_BYTES = 16

WhyAway = Callable[[], Awaitable[str | None]]
"""Looks whether the library counts as unmounted, and says why."""


class Fate(Enum):
    """What a second look at a file that was not found shows."""

    GONE = "gone"
    LEFT_OUT = "left out"
    """It no longer belongs to the library: excluded, or outside its paths."""
    UNKNOWN = "unknown"
    """It is there after all, or could not be looked at."""


class Missing:
    """Each file is to be noted once: they are counted."""

    def __init__(
        self, catalog: Catalog, library: Library, threads: Executor, exclusions: Exclusions, why_away: WhyAway
    ) -> None:
        self._catalog = catalog
        self._library = library
        self._threads = threads
        self._exclusions = exclusions
        self._why_away = why_away
        self._ids = bytearray()
        self.trashed = 0

    def note(self, asset_ids: Iterable[UUID]) -> None:
        for asset_id in asset_ids:
            self._ids += asset_id.bytes

    async def trash(self, walks: Sequence[Walk], *, accept_all: bool) -> str | None:
        """Returns why nothing may be moved to the trash, where that is so. `accept_all`: a person says that what is missing was deleted."""
        left_out = bytearray()
        gone = bytearray()
        async for fates in self._fates(walks):
            for asset_id, fate in fates.items():
                if fate is not Fate.UNKNOWN:
                    (gone if fate is Fate.GONE else left_out).extend(asset_id.bytes)
        for batch in _id_batches(left_out):
            await self._trash(batch)
        reason = None if accept_all else await self._verdict(gone)
        for batch in _id_batches(gone):
            if reason is not None:
                return reason
            await self._trash(batch)
            # A disk may go away at any moment.
            reason = None if accept_all else await self._why_away()
        return reason

    async def _trash(self, batch: list[UUID]) -> None:
        self.trashed += await self._catalog.library_files.trash(self._library, batch)

    async def _fates(self, walks: Sequence[Walk]) -> AsyncIterator[dict[UUID, Fate]]:
        loop = asyncio.get_running_loop()
        for batch in _id_batches(self._ids):
            paths = await self._catalog.library_files.paths(batch)
            yield await loop.run_in_executor(
                self._threads, lambda paths=paths: {each: self._fate(path, walks) for each, path in paths.items()}
            )

    def _fate(self, path: str, walks: Sequence[Walk]) -> Fate:
        root = next((root for root in self._library.import_paths if path.startswith(root + "/")), None)
        if root is None or self._left_out(path, root):
            return Fate.LEFT_OUT
        if any(walk.troubles.hides(path) for walk in walks):
            return Fate.UNKNOWN
        try:
            status = Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return Fate.GONE
        except OSError:
            return Fate.UNKNOWN
        return Fate.UNKNOWN if stat.S_ISREG(status.st_mode) and _inside(path, root) else Fate.GONE

    def _left_out(self, path: str, root: str) -> bool:
        if self._exclusions.leaves_out_all(root):
            return True
        folder = root
        *folders, name = path.removeprefix(root + "/").split("/")
        for segment in folders:
            if self._exclusions.leaves_out_folder(folder, segment):
                return True
            folder = f"{folder}/{segment}"
        return self._exclusions.leaves_out_file(folder, name)

    async def _verdict(self, gone: bytearray) -> str | None:
        """Why these files may not be moved to the trash; None where they may."""
        reason = await self._why_away()
        if reason is not None or not gone:
            return reason
        library, files = self._library, self._catalog.library_files
        lost, there = len(gone) // _ID_BYTES, await files.count(library.id)
        if library.scanned_at is None:
            return guard.losses(lost, there)
        # Losses that come bit by bit, as a watch sees them, count together; what came since the last complete scan counts for itself.
        before, old = await files.count_missing(library.id, library.scanned_at)
        for batch in _id_batches(gone):
            old += await files.count_older(batch, library.scanned_at)
        return guard.losses(old, library.files) or guard.losses(before + lost, before + there)


def _inside(path: str, root: str) -> bool:
    """False for a link that leads out of the import path."""
    return os.path.realpath(path).startswith(os.path.realpath(root) + "/")


def _id_batches(packed: bytearray) -> Iterable[list[UUID]]:
    step = GONE_BATCH * _ID_BYTES
    for start in range(0, len(packed), step):
        part = bytes(packed[start : start + step])
        yield [UUID(bytes=part[place : place + _ID_BYTES]) for place in range(0, len(part), _ID_BYTES)]
