"""One media folder (on S3: the bucket) under watch: whether its marker is there, since when, and how much room there is.

One look at a time, whoever asks: where a disk hangs, that costs one thread and no more.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import structlog

from app.health.mount_states import MountCondition, MountKind, MountState
from app.storage.backend import DiskSpace, StorageBackend
from app.storage.errors import ObjectChanged, ObjectNotFound, StorageError, StorageReadOnly, StorageUnavailable
from app.storage.key import Key

PROBE_TIMEOUT_SECONDS = 10.0

OVERRIDE_HINT = "(IMMICH_IGNORE_MOUNT_CHECK_ERRORS=true or `mediavault serve --adopt` override)"

_log = structlog.get_logger(__name__)


class MountCheckFailed(Exception):
    """A media folder is not what the catalogue remembers; the text says which and what to do."""

    def __init__(self, condition: MountCondition, text: str) -> None:
        self.condition = condition
        super().__init__(text)


class MediaFolder:
    """`path` is where the marker is, for people; `prefix` is the folder's key, "" for the whole place."""

    def __init__(self, name: str, prefix: str, marker: Key, path: str, backend: StorageBackend) -> None:
        self.name = name
        self.prefix = prefix
        self.marker = marker
        self.backend = backend
        self._path = path
        self._probe_task: asyncio.Task[MountCheckFailed | StorageError | None] | None = None
        self._condition: MountCondition | None = None
        self._error: str | None = None
        self._since = datetime.now(UTC)
        self._disk_space: DiskSpace | None = None
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
            free_bytes=self._disk_space.free if self._disk_space else None,
            total_bytes=self._disk_space.total if self._disk_space else None,
        )

    async def probe(self, marker_text: bytes) -> MountCheckFailed | StorageError | None:
        """What is wrong, if anything: `MountCheckFailed` where the marker does not hold `marker_text`, a storage error where that
        can not be told in time. A look that is under way is shared."""
        looking = self._probe_task
        if looking is None or looking.done():
            looking = self._probe_task = asyncio.create_task(
                self._probe_marker(marker_text), name=f"look at {self.name}"
            )
        done, _ = await asyncio.wait([looking], timeout=PROBE_TIMEOUT_SECONDS)
        if done:  # and another look may have begun since
            return looking.result()
        late = StorageUnavailable(
            self.marker.value, self.backend.name, f"no answer within {PROBE_TIMEOUT_SECONDS:.0f} s"
        )
        self._update_state(MountCondition.UNAVAILABLE, str(late), None)
        return late

    async def aclose(self) -> None:
        if self._probe_task is not None:
            self._probe_task.cancel()
            await asyncio.wait([self._probe_task])

    async def _probe_marker(self, text: bytes) -> MountCheckFailed | StorageError | None:
        try:
            await self.backend.check_marker(self.marker, text)
            room = await self.backend.disk_space(self.prefix)
        except StorageError as error:
            failure = self._to_mount_error(error)
            condition = failure.condition if isinstance(failure, MountCheckFailed) else MountCondition.UNAVAILABLE
            self._update_state(condition, str(failure), None)
            return failure
        if room is not None and not room.is_writable:
            # Retryable, so that a start goes on and what is there is served.
            refused = StorageReadOnly(self.prefix, self.backend.name, "no file can be made here (mounted read-only?)")
            self._update_state(MountCondition.READ_ONLY, str(refused), room)
            return refused
        self._update_state(MountCondition.OK, None, room)
        return None

    def _to_mount_error(self, error: StorageError) -> MountCheckFailed | StorageError:
        if isinstance(error, ObjectNotFound):
            missing = f"{self._path} is missing: the media location looks unmounted or emptied {OVERRIDE_HINT}"
            return MountCheckFailed(MountCondition.UNMOUNTED, missing)
        if isinstance(error, ObjectChanged):
            foreign = f"{self._path} names another installation: the media location is not ours {OVERRIDE_HINT}"
            return MountCheckFailed(MountCondition.NOT_OURS, foreign)
        return error

    def _update_state(self, condition: MountCondition, error: str | None, room: DiskSpace | None) -> None:
        former, self._condition = self._condition, condition
        self._error, self._disk_space = error, room
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
