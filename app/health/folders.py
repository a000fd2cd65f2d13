"""One media folder (on S3: the bucket) under watch: whether its marker is there, since when, and how much room there is.

One look at a time, whoever asks: where a disk hangs, that costs one thread and no more.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog

from app.health.mounts import MountCondition, MountKind, MountState
from app.storage.backend import Room, StorageBackend
from app.storage.errors import ObjectChanged, ObjectNotFound, StorageError, StorageReadOnly, StorageUnavailable
from app.storage.key import Key

LOOK_SECONDS = 10.0

OVERRIDE = "(IMMICH_IGNORE_MOUNT_CHECK_ERRORS=true or `mediavault serve --adopt` override)"

_log = structlog.get_logger(__name__)


class MountCheckFailed(Exception):
    """A media folder is not what the catalogue remembers; the text says which and what to do."""

    def __init__(self, condition: MountCondition, text: str) -> None:
        self.condition = condition
        super().__init__(text)


class WatchedFolder:
    """`path` is where the marker is, for people; `prefix` is the folder's key, "" for the whole place."""

    def __init__(self, name: str, prefix: str, marker: Key, path: str, backend: StorageBackend) -> None:
        self.name = name
        self.prefix = prefix
        self.marker = marker
        self.backend = backend
        self._path = path
        self._looking: asyncio.Task[MountCheckFailed | StorageError | None] | None = None
        self._condition: MountCondition | None = None
        self._error: str | None = None
        self._since = datetime.now(UTC)
        self._room: Room | None = None
        self._failure_logged = False

    @property
    def state(self) -> MountState:
        """As of the last look."""
        return MountState(
            name=self.name,
            kind=MountKind.MEDIA,
            state=self._condition or MountCondition.UNAVAILABLE,
            since=self._since,
            error=self._error,
            free_bytes=self._room.free if self._room else None,
            total_bytes=self._room.total if self._room else None,
        )

    async def look(self, text: bytes) -> MountCheckFailed | StorageError | None:
        """What is wrong, if anything: `MountCheckFailed` where the marker does not hold `text`, a storage error where that
        can not be told in time. A look that is under way is shared."""
        looking = self._looking
        if looking is None or looking.done():
            looking = self._looking = asyncio.create_task(self._look(text), name=f"look at {self.name}")
        done, _ = await asyncio.wait([looking], timeout=LOOK_SECONDS)
        if done:  # and another look may have begun since
            return looking.result()
        late = StorageUnavailable(self.marker.value, self.backend.name, f"no answer within {LOOK_SECONDS:.0f} s")
        self._note(MountCondition.UNAVAILABLE, str(late), None)
        return late

    async def aclose(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look(self, text: bytes) -> MountCheckFailed | StorageError | None:
        try:
            await self.backend.recognise(self.marker, text)
            room = await self.backend.room(self.prefix)
        except StorageError as error:
            failure = self._explained(error)
            condition = failure.condition if isinstance(failure, MountCheckFailed) else MountCondition.UNAVAILABLE
            self._note(condition, str(failure), None)
            return failure
        if room is not None and not room.writable:
            # Retryable, so that a start goes on and what is there is served.
            refused = StorageReadOnly(self.prefix, self.backend.name, "no file can be made here (mounted read-only?)")
            self._note(MountCondition.READ_ONLY, str(refused), room)
            return refused
        self._note(MountCondition.OK, None, room)
        return None

    def _explained(self, error: StorageError) -> MountCheckFailed | StorageError:
        if isinstance(error, ObjectNotFound):
            missing = f"{self._path} is missing: the media location looks unmounted or emptied {OVERRIDE}"
            return MountCheckFailed(MountCondition.UNMOUNTED, missing)
        if isinstance(error, ObjectChanged):
            foreign = f"{self._path} names another installation: the media location is not ours {OVERRIDE}"
            return MountCheckFailed(MountCondition.NOT_OURS, foreign)
        return error

    def _note(self, condition: MountCondition, error: str | None, room: Room | None) -> None:
        former, self._condition = self._condition, condition
        self._error, self._room = error, room
        if condition is former:
            return
        self._since = datetime.now(UTC)
        if former is None:
            return  # what the first look finds is the start's to tell: a new folder has no marker yet
        if error is not None:
            self._failure_logged = True
            _log.error("media folder is not well", folder=self.name, state=condition.value, reason=error)
        elif self._failure_logged:
            self._failure_logged = False
            _log.info("media folder is well again", folder=self.name)
