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
from app.health.folders import OVERRIDE, MountCheckFailed, WatchedFolder
from app.health.mounts import MountCondition, MountState
from app.health.writing import WriteProbe
from app.storage.backend import StorageBackend
from app.storage.errors import ObjectExists, StorageError, StorageUnavailable
from app.storage.key import Key
from app.storage.service import StorageService

FOLDERS = ("upload", "library", "thumbs", "encoded-video", "profile", "backups")
MARKER = ".immich"
INTACT_SECONDS = 3.0


async def require_root(catalog: Catalog, root: Path) -> None:
    """Before storage makes it: raises `MountCheckFailed` where the media location is not there although it was once."""
    if await asyncio.to_thread(root.is_dir):
        return
    for folder in FOLDERS:
        if await catalog.installation.flag(_flag(StorageEngine.LOCAL, _marker(folder))) is not None:
            missing = f"{root} is missing: the media location looks unmounted {OVERRIDE}"
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
        home = storage.home(engine or storage.engine)
        if home is None:
            raise ValueError(f"there is no place for the engine {engine}")
        self._catalog = catalog
        self._engine = home.engine
        self._backend = home.backend
        self._ignore_errors = ignore_errors
        self._folders = _watched(home.engine, home.backend, home.area.path)
        self._verified = False
        self._writing = WriteProbe(home.backend.probe, lambda: storage.failed_writes, lambda: storage.s3_writes, clock)
        self._intact_until = float("-inf")

    async def verify(self, *, adopt: bool = False) -> None:
        """Look at every marker, and make those that never were; `adopt` makes all of them ours.

        Raises `MountCheckFailed`, or a storage error when the store does not answer; then none was made.
        """
        text = await self._text()
        known = [folder for folder in self._folders if await self._flagged(folder)]
        failures = await self._look_at(self._folders, text)
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
            await _make(folder, text, replace=adopt)
        _raise_first(await self._look_at(made, text))
        for folder in self._folders:
            if folder not in refused:
                await self._catalog.installation.set_flag(_flag(self._engine, folder.marker), "verified")
        self._verified = True

    async def check(self) -> None:
        """For readiness: raises what is wrong."""
        if not self._verified:
            await self.verify()
        elif not self._ignore_errors:
            _raise_first(await self._look())
        if self._engine is StorageEngine.S3:
            await self._writing.check()

    async def admit_write(self) -> None:
        """Raises `StorageUnavailable` while the media location is not ours: what is written then would be lost from sight."""
        if not self._ignore_errors:
            await self.require_intact()

    async def require_intact(self) -> None:
        """As `admit_write`, whatever an operator ignores: what is not found on a foreign or empty folder was not deleted. Asks
        at most every few seconds."""
        if time.monotonic() < self._intact_until:
            return
        try:
            if not self._verified:
                await self.verify()
            _raise_first(await self._look())
        except MountCheckFailed as error:
            raise StorageUnavailable("", self._backend.name, str(error)) from error

    async def states(self) -> list[MountState]:
        """Of every media folder, at most a few seconds old; on S3 of the bucket."""
        if time.monotonic() >= self._intact_until:
            await self._look()
        return [folder.state for folder in self._folders]

    async def known_folders(self) -> frozenset[str]:
        """Names of those whose marker was there once."""
        return frozenset([folder.name for folder in self._folders if await self._flagged(folder)])

    async def aclose(self) -> None:
        for folder in self._folders:
            await folder.aclose()

    async def _look(self) -> dict[WatchedFolder, MountCheckFailed | StorageError]:
        failures = await self._look_at(self._folders, await self._text())
        if not failures:
            self._intact_until = time.monotonic() + INTACT_SECONDS
        return failures

    async def _text(self) -> bytes:
        return f"{await self._catalog.installation.id()}\n".encode()

    @staticmethod
    async def _look_at(
        folders: Sequence[WatchedFolder], text: bytes
    ) -> dict[WatchedFolder, MountCheckFailed | StorageError]:
        """Those that are not well, with why."""
        found = await asyncio.gather(*(folder.look(text) for folder in folders))
        return {folder: error for folder, error in zip(folders, found, strict=True) if error is not None}

    async def _flagged(self, folder: WatchedFolder) -> bool:
        return await self._catalog.installation.flag(_flag(self._engine, folder.marker)) is not None


def _watched(
    engine: StorageEngine, backend: StorageBackend, path_of: Callable[[Key], str]
) -> tuple[WatchedFolder, ...]:
    if engine is StorageEngine.S3:
        key = Key(MARKER)
        path = path_of(key)
        return (WatchedFolder(path.removesuffix(f"/{MARKER}"), "", key, path, backend),)
    keys = {folder: _marker(folder) for folder in FOLDERS}
    return tuple(WatchedFolder(folder, folder, key, path_of(key), backend) for folder, key in keys.items())


def _marker(folder: str) -> Key:
    return Key(f"{folder}/{MARKER}")


def _flag(engine: StorageEngine, marker: Key) -> str:
    return f"marker:{engine}:{marker}"


async def _make(folder: WatchedFolder, text: bytes, *, replace: bool) -> None:
    await folder.backend.ensure_prefix(folder.prefix)
    if replace:
        await folder.backend.put_object(folder.marker, text)
        return
    with suppress(ObjectExists):  # another process of ours was first; the next look tells
        async with folder.backend.write_stream(folder.marker, size=len(text)) as writer:
            await writer.write(text)


def _raise_first(failures: dict[WatchedFolder, MountCheckFailed | StorageError]) -> None:
    for error in failures.values():
        raise error
