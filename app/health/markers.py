"""The markers that tell our media folders from empty mount points and somebody else's files.

Immich's scheme: a file `.immich` in each media folder, here holding the installation's id, and the catalogue remembers
that it was there. Missing later means unmounted (or an emptied bucket), another id means not ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from app.catalog.catalog import Catalog
from app.config import StorageEngine
from app.health.media_folder import OVERRIDE_HINT, MediaFolder, MountCheckFailed
from app.health.mount_states import MountCondition, MountState
from app.health.write_probe import WriteProbe
from app.storage.backend import StorageBackend
from app.storage.errors import ObjectExists, StorageError, StorageUnavailable
from app.storage.key import Key
from app.storage.service import StorageService

MEDIA_FOLDERS = ("upload", "library", "thumbs", "encoded-video", "profile", "backups")
MARKER_NAME = ".immich"
MARKER_CACHE_SECONDS = 3.0


async def check_root_exists(catalog: Catalog, root: Path) -> None:
    """Before storage makes it: raises `MountCheckFailed` where the media location is not there although it was once."""
    if await asyncio.to_thread(root.is_dir):
        return
    for folder in MEDIA_FOLDERS:
        if await catalog.installation.get_flag(_marker_flag(StorageEngine.LOCAL, _marker_key(folder))) is not None:
            missing = f"{root} is missing: the media location looks unmounted {OVERRIDE_HINT}"
            raise MountCheckFailed(MountCondition.UNMOUNTED, missing)


class MediaLocationCheck:
    """Verifies the media location of one engine: markers always, a test object on S3 once an hour."""

    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        *,
        ignore_errors: bool = False,
        engine: StorageEngine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`engine`: that place, which must be configured, in place of the one where new files go."""
        home = storage.find_location(engine or storage.engine)
        if home is None:
            raise ValueError(f"there is no place for the engine {engine}")
        self._catalog = catalog
        self._engine = home.engine
        self._backend = home.backend
        self._ignore_errors = ignore_errors
        self._folders = _build_media_folders(home.engine, home.backend, home.paths.to_path)
        self._verified = False
        self._writing = WriteProbe(home.backend.probe, lambda: storage.failed_writes, lambda: storage.s3_writes, clock)
        self._markers_valid_until = float("-inf")

    async def verify(self, *, adopt: bool = False) -> None:
        """Look at every marker, and make those that never were; `adopt` makes all of them ours.

        Raises `MountCheckFailed`, or a storage error when the store does not answer; then none was made.
        """
        text = await self._text()
        known = [folder for folder in self._folders if await self._was_marked(folder)]
        failures = await self._probe_folders(self._folders, text)
        # A marker that was there once is made again only when a person says so: its disk is known when it comes back.
        made = [
            folder
            for folder, error in failures.items()
            if isinstance(error, MountCheckFailed)
            and (adopt or (folder not in known and error.condition is MountCondition.UNMOUNTED))
        ]
        refused = {folder: error for folder, error in failures.items() if folder not in made}
        for folder, error in refused.items():
            ignored = self._ignore_errors and (folder in known or isinstance(error, MountCheckFailed))
            if not ignored:
                raise error
        for folder in made:
            await _write_marker(folder, text, replace=adopt)
        _raise_first(await self._probe_folders(made, text))
        for folder in self._folders:
            if folder not in refused:
                await self._catalog.installation.set_flag(_marker_flag(self._engine, folder.marker), "verified")
        self._verified = True

    async def check_readiness(self) -> None:
        """For readiness: raises what is wrong."""
        if not self._verified:
            await self.verify()
        elif not self._ignore_errors:
            _raise_first(await self._probe_all())
        if self._engine is StorageEngine.S3:
            await self._writing.check()

    async def check_before_write(self) -> None:
        """Raises `StorageUnavailable` while the media location is not ours: what is written then would be lost from sight."""
        if not self._ignore_errors:
            await self.check_markers()

    async def check_markers(self) -> None:
        """As `check_before_write`, whatever an operator ignores: what is not found on a foreign or empty folder was not deleted. Asks
        at most every few seconds."""
        if time.monotonic() < self._markers_valid_until:
            return
        try:
            if not self._verified:
                await self.verify()
            _raise_first(await self._probe_all())
        except MountCheckFailed as error:
            raise StorageUnavailable("", self._backend.name, str(error)) from error

    async def list_mount_states(self) -> list[MountState]:
        """Of every media folder, at most a few seconds old; on S3 of the bucket."""
        if time.monotonic() >= self._markers_valid_until:
            await self._probe_all()
        return [folder.state for folder in self._folders]

    async def list_marked_folders(self) -> frozenset[str]:
        """Names of those whose marker was there once."""
        return frozenset([folder.name for folder in self._folders if await self._was_marked(folder)])

    async def aclose(self) -> None:
        for folder in self._folders:
            await folder.aclose()

    async def _probe_all(self) -> dict[MediaFolder, MountCheckFailed | StorageError]:
        failures = await self._probe_folders(self._folders, await self._text())
        if not failures:
            self._markers_valid_until = time.monotonic() + MARKER_CACHE_SECONDS
        return failures

    async def _text(self) -> bytes:
        return f"{await self._catalog.installation.get_id()}\n".encode()

    @staticmethod
    async def _probe_folders(
        folders: Sequence[MediaFolder], text: bytes
    ) -> dict[MediaFolder, MountCheckFailed | StorageError]:
        """Those that are not well, with why."""
        found = await asyncio.gather(*(folder.probe(text) for folder in folders))
        return {folder: error for folder, error in zip(folders, found, strict=True) if error is not None}

    async def _was_marked(self, folder: MediaFolder) -> bool:
        return await self._catalog.installation.get_flag(_marker_flag(self._engine, folder.marker)) is not None


def _build_media_folders(
    engine: StorageEngine, backend: StorageBackend, path_of: Callable[[Key], str]
) -> tuple[MediaFolder, ...]:
    if engine is StorageEngine.S3:
        key = Key(MARKER_NAME)
        path = path_of(key)
        return (MediaFolder(path.removesuffix(f"/{MARKER_NAME}"), "", key, path, backend),)
    keys = {folder: _marker_key(folder) for folder in MEDIA_FOLDERS}
    return tuple(MediaFolder(folder, folder, key, path_of(key), backend) for folder, key in keys.items())


def _marker_key(folder: str) -> Key:
    return Key(f"{folder}/{MARKER_NAME}")


def _marker_flag(engine: StorageEngine, marker: Key) -> str:
    return f"marker:{engine}:{marker}"


async def _write_marker(folder: MediaFolder, text: bytes, *, replace: bool) -> None:
    await folder.backend.ensure_prefix(folder.prefix)
    if replace:
        await folder.backend.put_object(folder.marker, text)
        return
    with suppress(ObjectExists):  # another process of ours was first; the next look tells
        async with folder.backend.write_stream(folder.marker, size=len(text)) as writer:
            await writer.write(text)


def _raise_first(failures: dict[MediaFolder, MountCheckFailed | StorageError]) -> None:
    for error in failures.values():
        raise error
