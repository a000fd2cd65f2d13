"""The marker that tells our media location from an empty mount point or somebody else's files.

Immich's scheme: a file `.immich` in each media folder, here holding the installation's id, and the catalogue remembers
that it was there. Missing later means unmounted (or an emptied bucket), another id means not ours.
"""

from __future__ import annotations

import asyncio
import time

from app.catalog.catalog import Catalog
from app.config import StorageEngine
from app.storage.errors import ObjectNotFound, StorageUnavailable
from app.storage.key import Key
from app.storage.service import StorageService

FOLDERS = ("upload", "library", "thumbs", "encoded-video", "profile", "backups")
MARKER = ".immich"
PROBE_SECONDS = 60.0
INTACT_SECONDS = 3.0
MAX_MARKER_BYTES = 1024


class MountCheckFailed(Exception):
    """A media folder is not what the catalogue remembers; the text says which and what to do."""


class MediaLocationCheck:
    """Verifies the media location of one engine: markers always, a test object on S3 once a minute."""

    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        *,
        ignore_errors: bool = False,
        engine: StorageEngine | None = None,
    ) -> None:
        """`engine`: that place, which must be configured, in place of the one where new files go."""
        home = storage.home(engine or storage.engine)
        if home is None:
            raise ValueError(f"there is no place for the engine {engine}")
        self._catalog = catalog
        self._home = home
        self._ignore_errors = ignore_errors
        self._verified = False
        self._probed = float("-inf")
        self._intact_until = float("-inf")

    async def verify(self, *, adopt: bool = False) -> None:
        """Read every marker, making those that never were; `adopt` makes all of them ours.

        Raises `MountCheckFailed`, or a storage error when the store does not answer.
        """
        installation = str(await self._catalog.installation.id())
        for folder, key in self._markers():
            await self._verify_one(folder, key, installation, adopt=adopt)
        for _, key in self._markers():
            await self._catalog.installation.set_flag(self._flag(key), "verified")
        self._verified = True

    async def check(self) -> None:
        """For readiness: raises what is wrong."""
        if not self._verified:
            await self.verify()
        elif not self._ignore_errors:
            await self._compare_all()
        if self._home.engine is StorageEngine.S3 and time.monotonic() - self._probed > PROBE_SECONDS:
            await self._home.backend.probe()
            self._probed = time.monotonic()

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
            await self._compare_all()
        except MountCheckFailed as error:
            raise StorageUnavailable("", self._home.backend.name, str(error)) from error
        self._intact_until = time.monotonic() + INTACT_SECONDS

    async def _compare_all(self) -> None:
        installation = str(await self._catalog.installation.id())
        await asyncio.gather(*(self._compare(key, installation) for _, key in self._markers()))

    def _markers(self) -> tuple[tuple[str, Key], ...]:
        if self._home.engine is StorageEngine.S3:
            return (("", Key(MARKER)),)
        return tuple((folder, Key(f"{folder}/{MARKER}")) for folder in FOLDERS)

    def _flag(self, key: Key) -> str:
        return f"marker:{self._home.engine}:{key}"

    async def _verify_one(self, folder: str, key: Key, installation: str, *, adopt: bool) -> None:
        backend = self._home.backend
        known = await self._catalog.installation.flag(self._flag(key)) is not None
        if known and not adopt:
            # Ignored or not: a marker that was there is never made again, so that its disk is known when it comes back.
            if not self._ignore_errors:
                await self._compare(key, installation)
            return
        found = await self._read(key)
        if found is None or adopt:
            await backend.ensure_prefix(folder)
            await backend.put_object(key, f"{installation}\n".encode())
        elif found != installation and not self._ignore_errors:
            raise MountCheckFailed(self._not_ours(key))

    async def _compare(self, key: Key, installation: str) -> None:
        found = await self._read(key)
        if found is None:
            raise MountCheckFailed(
                f"{self._home.area.path(key)} is missing: the media location looks unmounted or emptied "
                "(IMMICH_IGNORE_MOUNT_CHECK_ERRORS=true or `mediavault serve --adopt` override)"
            )
        if found != installation:
            raise MountCheckFailed(self._not_ours(key))

    def _not_ours(self, key: Key) -> str:
        return (
            f"{self._home.area.path(key)} names another installation: the media location is not ours "
            "(IMMICH_IGNORE_MOUNT_CHECK_ERRORS=true or `mediavault serve --adopt` override)"
        )

    async def _read(self, key: Key) -> str | None:
        try:
            async with self._home.backend.read_stream(key) as stream:
                if stream.info.size > MAX_MARKER_BYTES:
                    return ""
                return b"".join([chunk async for chunk in stream.chunks]).decode("utf-8", "replace").strip()
        except ObjectNotFound:
            return None
