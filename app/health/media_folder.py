"""State of one media folder (on S3: of the bucket): its marker, its free space, and since when it has been in that state.

At most one probe runs at a time, and callers share it, so that a disk that hangs costs one thread. Markers are created in `markers`, not here.
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
    """A media folder's marker is missing or foreign. The text, for the operator, says which one and what to do."""

    def __init__(self, condition: MountCondition, text: str) -> None:
        self.condition = condition
        super().__init__(text)


class MediaFolder:
    """`path`: the marker's path, for error texts. `prefix`: the folder's key, "" for the whole location."""

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
        """The state as of the last probe."""
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
        """Returns None if all is well, `MountCheckFailed` if the marker does not hold `marker_text`, a `StorageError` if that cannot be found out in
        time, or no file can be created. Shares a probe that is running."""
        task = self._probe_task
        if task is None or task.done():
            task = self._probe_task = asyncio.create_task(self._probe_marker(marker_text), name=f"probe of {self.name}")
        done, _ = await asyncio.wait([task], timeout=PROBE_TIMEOUT_SECONDS)
        if done:  # not `self._probe_task`: another one may have begun since
            return task.result()
        error = StorageUnavailable(
            self.marker.value, self.backend.name, f"no answer within {PROBE_TIMEOUT_SECONDS:.0f} s"
        )
        self._update_state(MountCondition.UNAVAILABLE, str(error), None)
        return error

    async def aclose(self) -> None:
        if self._probe_task is not None:
            self._probe_task.cancel()
            await asyncio.wait([self._probe_task])

    async def _probe_marker(self, marker_text: bytes) -> MountCheckFailed | StorageError | None:
        try:
            await self.backend.check_marker(self.marker, marker_text)
            disk_space = await self.backend.disk_space(self.prefix)
        except StorageError as error:
            failure = self._to_mount_error(error)
            condition = failure.condition if isinstance(failure, MountCheckFailed) else MountCondition.UNAVAILABLE
            self._update_state(condition, str(failure), None)
            return failure
        if disk_space is not None and not disk_space.is_writable:
            # A retryable error, so that a start goes on and existing files are served.
            error = StorageReadOnly(self.prefix, self.backend.name, "no file can be made here (mounted read-only?)")
            self._update_state(MountCondition.READ_ONLY, str(error), disk_space)
            return error
        self._update_state(MountCondition.OK, None, disk_space)
        return None

    def _to_mount_error(self, error: StorageError) -> MountCheckFailed | StorageError:
        if isinstance(error, ObjectNotFound):
            text = f"{self._path} is missing: the media location looks unmounted or emptied {OVERRIDE_HINT}"
            return MountCheckFailed(MountCondition.UNMOUNTED, text)
        if isinstance(error, ObjectChanged):
            text = f"{self._path} names another installation: the media location is not ours {OVERRIDE_HINT}"
            return MountCheckFailed(MountCondition.NOT_OURS, text)
        return error

    def _update_state(self, condition: MountCondition, error: str | None, disk_space: DiskSpace | None) -> None:
        previous, self._condition = self._condition, condition
        self._error, self._disk_space = error, disk_space
        if condition is previous:
            return
        self._since = datetime.now(UTC)
        if previous is None:
            return  # not logged: the start reports errors of the first probe, and a new folder has no marker yet
        if error is not None:
            self._failure_logged = True
            _log.error("media folder is not well", folder=self.name, state=condition.value, reason=error)
        elif self._failure_logged:
            self._failure_logged = False
            _log.info("media folder is well again", folder=self.name)
