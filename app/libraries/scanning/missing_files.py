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
from app.catalog.schema.library_records import Library
from app.libraries.patterns.exclusions import ExclusionRules
from app.libraries.scanning import offline_guard
from app.libraries.scanning.walk import FolderWalk

GONE_BATCH = 500
_ID_BYTES = 16

FindOfflineReason = Callable[[], Awaitable[str | None]]
"""Looks whether the library counts as unmounted, and says why."""


class MissingFileState(Enum):
    """What a second look at a file that was not found shows."""

    GONE = "gone"
    EXCLUDED = "left out"
    """It no longer belongs to the library: excluded, or outside its paths."""
    UNKNOWN = "unknown"
    """It is there after all, or could not be looked at."""


class MissingFiles:
    """Each file is to be noted once: they are counted."""

    def __init__(
        self,
        catalog: Catalog,
        library: Library,
        threads: Executor,
        exclusions: ExclusionRules,
        find_offline_reason: FindOfflineReason,
    ) -> None:
        self._catalog = catalog
        self._library = library
        self._threads = threads
        self._exclusions = exclusions
        self._find_offline_reason = find_offline_reason
        self._ids = bytearray()
        self.trashed_count = 0

    def add(self, asset_ids: Iterable[UUID]) -> None:
        for asset_id in asset_ids:
            self._ids += asset_id.bytes

    async def trash(self, walks: Sequence[FolderWalk], *, accept_all: bool) -> str | None:
        """Returns why nothing may be moved to the trash, where that is so. `accept_all`: a person says that what is missing was deleted."""
        left_out = bytearray()
        gone = bytearray()
        async for fates in self._check_files(walks):
            for asset_id, fate in fates.items():
                if fate is not MissingFileState.UNKNOWN:
                    (gone if fate is MissingFileState.GONE else left_out).extend(asset_id.bytes)
        for batch in _split_ids(left_out):
            await self._trash_batch(batch)
        reason = None if accept_all else await self._trash_refusal_reason(gone)
        for batch in _split_ids(gone):
            if reason is not None:
                return reason
            await self._trash_batch(batch)
            # A disk may go away at any moment.
            reason = None if accept_all else await self._find_offline_reason()
        return reason

    async def _trash_batch(self, batch: list[UUID]) -> None:
        self.trashed_count += await self._catalog.library_files.trash(self._library, batch)

    async def _check_files(self, walks: Sequence[FolderWalk]) -> AsyncIterator[dict[UUID, MissingFileState]]:
        loop = asyncio.get_running_loop()
        for batch in _split_ids(self._ids):
            paths = await self._catalog.library_files.get_paths(batch)
            yield await loop.run_in_executor(
                self._threads, lambda paths=paths: {each: self._check_file(path, walks) for each, path in paths.items()}
            )

    def _check_file(self, path: str, walks: Sequence[FolderWalk]) -> MissingFileState:
        root = next((root for root in self._library.import_paths if path.startswith(root + "/")), None)
        if root is None or self._is_excluded(path, root):
            return MissingFileState.EXCLUDED
        if any(walk.unreadable.covers(path) for walk in walks):
            return MissingFileState.UNKNOWN
        try:
            status = Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return MissingFileState.GONE
        except OSError:
            return MissingFileState.UNKNOWN
        return (
            MissingFileState.UNKNOWN
            if stat.S_ISREG(status.st_mode) and _resolves_inside(path, root)
            else MissingFileState.GONE
        )

    def _is_excluded(self, path: str, root: str) -> bool:
        if self._exclusions.excludes_root(root):
            return True
        folder = root
        *folders, name = path.removeprefix(root + "/").split("/")
        for segment in folders:
            if self._exclusions.excludes_folder(folder, segment):
                return True
            folder = f"{folder}/{segment}"
        return self._exclusions.excludes_file(folder, name)

    async def _trash_refusal_reason(self, gone: bytearray) -> str | None:
        """Why these files may not be moved to the trash; None where they may."""
        reason = await self._find_offline_reason()
        if reason is not None or not gone:
            return reason
        library, files = self._library, self._catalog.library_files
        lost, there = len(gone) // _ID_BYTES, await files.count(library.id)
        if library.scanned_at is None:
            return offline_guard.mass_loss_reason(lost, there)
        # Losses that come bit by bit, as a watch sees them, count together; what came since the last complete scan counts for itself.
        before, old = await files.count_missing(library.id, library.scanned_at)
        for batch in _split_ids(gone):
            old += await files.count_older(batch, library.scanned_at)
        return offline_guard.mass_loss_reason(old, library.files) or offline_guard.mass_loss_reason(
            before + lost, before + there
        )


def _resolves_inside(path: str, root: str) -> bool:
    """False for a link that leads out of the import path."""
    return os.path.realpath(path).startswith(os.path.realpath(root) + "/")


def _split_ids(packed: bytearray) -> Iterable[list[UUID]]:
    step = GONE_BATCH * _ID_BYTES
    for start in range(0, len(packed), step):
        part = bytes(packed[start : start + step])
        yield [UUID(bytes=part[place : place + _ID_BYTES]) for place in range(0, len(part), _ID_BYTES)]
