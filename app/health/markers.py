"""Markers of the media location: tells mounted media folders from empty mount points and from those of another installation.

The scheme is Immich's: a file `.immich` in each media folder (one for the whole bucket on S3). Here it holds the installation's id, and the
catalogue has a flag for each marker that was seen. A flagged marker that is missing means unmounted, or an emptied bucket; another id in a marker
means that the folder belongs to another installation.
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
    """Raises `MountCheckFailed` if the folder of the media location is missing although it has had markers. To be called before the storage is
    opened, which creates the folder."""
    if await asyncio.to_thread(root.is_dir):
        return
    for folder in MEDIA_FOLDERS:
        if await catalog.installation.get_flag(_marker_flag(StorageEngine.LOCAL, _marker_key(folder))) is not None:
            missing = f"{root} is missing: the media location looks unmounted {OVERRIDE_HINT}"
            raise MountCheckFailed(MountCondition.UNMOUNTED, missing)


class MediaLocationCheck:
    """Verifies the media location of one engine: markers at each check, on S3 also a test object once an hour."""

    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        *,
        ignore_errors: bool = False,
        engine: StorageEngine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`engine`: whose location, which must be configured; by default that of new files. `ignore_errors`: the operator switched mount checks off.
        `clock`: seconds, for tests."""
        location = storage.find_location(engine or storage.engine)
        if location is None:
            raise ValueError(f"there is no place for the engine {engine}")
        self._catalog = catalog
        self._engine = location.engine
        self._backend = location.backend
        self._ignore_errors = ignore_errors
        self._folders = _build_media_folders(location.engine, location.backend, location.paths.to_path)
        self._verified = False
        self._write_probe = WriteProbe(
            location.backend.probe, lambda: storage.failed_writes, lambda: storage.s3_writes, clock
        )
        self._markers_valid_until = float("-inf")

    async def verify(self, *, adopt: bool = False) -> None:
        """Checks every marker, and creates those that have never been seen. `adopt` overwrites missing and foreign ones, too.

        Raises `MountCheckFailed`, or `StorageError` if the store does not answer; then no marker was created.
        """
        text = await self._build_marker_text()
        marked = [folder for folder in self._folders if await self._has_marker_flag(folder)]
        failures = await self._probe_folders(self._folders, text)
        # A marker that was seen before is created again only with `adopt`: it may lie on a disk that is unmounted for now.
        to_create = [
            folder
            for folder, error in failures.items()
            if isinstance(error, MountCheckFailed)
            and (adopt or (folder not in marked and error.condition is MountCondition.UNMOUNTED))
        ]
        remaining = {folder: error for folder, error in failures.items() if folder not in to_create}
        for folder, error in remaining.items():
            is_ignored = self._ignore_errors and (folder in marked or isinstance(error, MountCheckFailed))
            if not is_ignored:
                raise error
        for folder in to_create:
            await _write_marker(folder, text, replace=adopt)
        _raise_first(await self._probe_folders(to_create, text))
        for folder in self._folders:
            if folder not in remaining:
                await self._catalog.installation.set_flag(_marker_flag(self._engine, folder.marker), "verified")
        self._verified = True

    async def check_readiness(self) -> None:
        """For readiness. Raises `MountCheckFailed` or `StorageError`."""
        if not self._verified:
            await self.verify()
        elif not self._ignore_errors:
            _raise_first(await self._probe_all())
        if self._engine is StorageEngine.S3:
            await self._write_probe.check()

    async def check_before_write(self) -> None:
        """Raises `StorageUnavailable` while a marker is missing or foreign: files written then would be hidden by the disk once it is mounted. Does
        nothing if the operator switched mount checks off."""
        if not self._ignore_errors:
            await self.check_markers()

    async def check_markers(self) -> None:
        """As `check_before_write`, also if mount checks are switched off: for callers that would take files missing from an unmounted folder for
        deleted ones. A success is cached for `MARKER_CACHE_SECONDS`."""
        if time.monotonic() < self._markers_valid_until:
            return
        try:
            if not self._verified:
                await self.verify()
            _raise_first(await self._probe_all())
        except MountCheckFailed as error:
            raise StorageUnavailable("", self._backend.name, str(error)) from error

    async def list_mount_states(self) -> list[MountState]:
        """The state of every media folder (on S3: of the bucket), at most `MARKER_CACHE_SECONDS` old if all is well."""
        if time.monotonic() >= self._markers_valid_until:
            await self._probe_all()
        return [folder.state for folder in self._folders]

    async def list_marked_folders(self) -> frozenset[str]:
        """Names of the media folders whose marker has been seen."""
        return frozenset([folder.name for folder in self._folders if await self._has_marker_flag(folder)])

    async def aclose(self) -> None:
        for folder in self._folders:
            await folder.aclose()

    async def _probe_all(self) -> dict[MediaFolder, MountCheckFailed | StorageError]:
        failures = await self._probe_folders(self._folders, await self._build_marker_text())
        if not failures:
            self._markers_valid_until = time.monotonic() + MARKER_CACHE_SECONDS
        return failures

    async def _build_marker_text(self) -> bytes:
        return f"{await self._catalog.installation.get_id()}\n".encode()

    @staticmethod
    async def _probe_folders(
        folders: Sequence[MediaFolder], text: bytes
    ) -> dict[MediaFolder, MountCheckFailed | StorageError]:
        """The folders that fail, each with its error."""
        errors = await asyncio.gather(*(folder.probe(text) for folder in folders))
        return {folder: error for folder, error in zip(folders, errors, strict=True) if error is not None}

    async def _has_marker_flag(self, folder: MediaFolder) -> bool:
        return await self._catalog.installation.get_flag(_marker_flag(self._engine, folder.marker)) is not None


def _build_media_folders(
    engine: StorageEngine, backend: StorageBackend, to_path: Callable[[Key], str]
) -> tuple[MediaFolder, ...]:
    if engine is StorageEngine.S3:
        key = Key(MARKER_NAME)
        path = to_path(key)
        return (MediaFolder(path.removesuffix(f"/{MARKER_NAME}"), "", key, path, backend),)
    keys = {folder: _marker_key(folder) for folder in MEDIA_FOLDERS}
    return tuple(MediaFolder(folder, folder, key, to_path(key), backend) for folder, key in keys.items())


def _marker_key(folder: str) -> Key:
    return Key(f"{folder}/{MARKER_NAME}")


def _marker_flag(engine: StorageEngine, marker: Key) -> str:
    return f"marker:{engine}:{marker}"


async def _write_marker(folder: MediaFolder, text: bytes, *, replace: bool) -> None:
    await folder.backend.ensure_prefix(folder.prefix)
    if replace:
        await folder.backend.put_object(folder.marker, text)
        return
    with suppress(ObjectExists):  # another process was first; the following probe verifies its marker
        async with folder.backend.write_stream(folder.marker, size=len(text)) as writer:
            await writer.write(text)


def _raise_first(failures: dict[MediaFolder, MountCheckFailed | StorageError]) -> None:
    for error in failures.values():
        raise error
