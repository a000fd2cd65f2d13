"""Handles the files that a scan did not find: checks each again, and moves those that are gone to the trash, unless the offline guard refuses.

Only the id of each file is kept in memory, for a library may lose hundreds of thousands.
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
"""Probes whether the library counts as unmounted; returns why, or None."""


class MissingFileState(Enum):
    """The result of the second check of a file that was not found."""

    GONE = "gone"
    EXCLUDED = "left out"
    """It no longer belongs to the library: excluded, or outside its paths."""
    UNKNOWN = "unknown"
    """It exists after all, or could not be checked."""


class MissingFiles:
    """Collects missing files. Add each once: the offline guard counts them."""

    def __init__(
        self,
        catalog: Catalog,
        library: Library,
        executor: Executor,
        exclusions: ExclusionRules,
        find_offline_reason: FindOfflineReason,
    ) -> None:
        self._catalog = catalog
        self._library = library
        self._executor = executor
        self._exclusions = exclusions
        self._find_offline_reason = find_offline_reason
        self._ids = bytearray()
        self.trashed_count = 0

    def add(self, asset_ids: Iterable[UUID]) -> None:
        for asset_id in asset_ids:
            self._ids += asset_id.bytes

    async def trash(self, walks: Sequence[FolderWalk], *, accept_all: bool) -> str | None:
        """Moves the files that are gone or excluded to the trash. Returns why the offline guard refused it for those that are gone; None if it
        did not. `accept_all`: an operator confirmed that missing files were deleted."""
        excluded = bytearray()
        gone = bytearray()
        async for states in self._check_files(walks):
            for asset_id, state in states.items():
                if state is not MissingFileState.UNKNOWN:
                    (gone if state is MissingFileState.GONE else excluded).extend(asset_id.bytes)
        for batch in _split_ids(excluded):
            await self._trash_batch(batch)
        reason = None if accept_all else await self._trash_refusal_reason(gone)
        for batch in _split_ids(gone):
            if reason is not None:
                return reason
            await self._trash_batch(batch)
            # A disk may be unmounted at any moment.
            reason = None if accept_all else await self._find_offline_reason()
        return reason

    async def _trash_batch(self, batch: list[UUID]) -> None:
        self.trashed_count += await self._catalog.library_files.trash(self._library, batch)

    async def _check_files(self, walks: Sequence[FolderWalk]) -> AsyncIterator[dict[UUID, MissingFileState]]:
        loop = asyncio.get_running_loop()
        for batch in _split_ids(self._ids):
            paths = await self._catalog.library_files.get_paths(batch)
            yield await loop.run_in_executor(
                self._executor,
                lambda paths=paths: {each: self._check_file(path, walks) for each, path in paths.items()},
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
        """Why the files `gone` must not be moved to the trash; None if they may."""
        reason = await self._find_offline_reason()
        if reason is not None or not gone:
            return reason
        library, files = self._library, self._catalog.library_files
        lost, known = len(gone) // _ID_BYTES, await files.count(library.id)
        if library.scanned_at is None:
            return offline_guard.mass_loss_reason(lost, known)
        # Losses that a watch reports bit by bit are added up. Files newer than the last complete scan are counted separately.
        lost_before, old_losses = await files.count_missing(library.id, library.scanned_at)
        for batch in _split_ids(gone):
            old_losses += await files.count_older(batch, library.scanned_at)
        return offline_guard.mass_loss_reason(old_losses, library.files) or offline_guard.mass_loss_reason(
            lost_before + lost, lost_before + known
        )


def _resolves_inside(path: str, root: str) -> bool:
    """False if the path leads out of the import path by a link."""
    return os.path.realpath(path).startswith(os.path.realpath(root) + "/")


def _split_ids(packed: bytearray) -> Iterable[list[UUID]]:
    """Batches of ids from their 16-byte forms."""
    step = GONE_BATCH * _ID_BYTES
    for start in range(0, len(packed), step):
        part = bytes(packed[start : start + step])
        yield [UUID(bytes=part[offset : offset + _ID_BYTES]) for offset in range(0, len(part), _ID_BYTES)]
