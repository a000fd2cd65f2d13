"""Mount states: the common record of the state of media folders and external libraries, and the registry of their sources.

Nothing here accesses a disk. Each source reports its states in bounded time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.health.readiness import CheckFailed


class MountKind(StrEnum):
    MEDIA = "media"
    LIBRARY = "library"
    FOREIGN = "foreign"
    """Another program's folder, whose files are read where they lie."""


class MountCondition(StrEnum):
    OK = "ok"
    UNMOUNTED = "unmounted"
    """Known files or markers are missing: no disk, an empty mount point, an emptied bucket."""
    NOT_OURS = "not_ours"
    """The marker names another installation, or the folder is another program's."""
    READ_ONLY = "read_only"
    """The marker is right, but no file can be created."""
    UNAVAILABLE = "unavailable"
    """The state cannot be found out: no answer in time, no permission, an error of the device."""


@dataclass(frozen=True, slots=True)
class MountState:
    """The state of one folder or bucket. `name`: a media folder's, such as `upload`, a library's name, or a foreign folder's path.

    `since`: when this process saw the state begin, aware UTC. `error`: one line for the operator; None if the state is OK. `free_bytes` and
    `total_bytes`: of its file system; None if there is none, as on S3, or they cannot be read.
    """

    name: str
    kind: MountKind
    state: MountCondition
    since: datetime
    error: str | None
    free_bytes: int | None
    total_bytes: int | None


ListMountStates = Callable[[], Awaitable[list[MountState]]]
"""A source of mount states, in the order to be shown. A folder that fails is a state, not an exception."""


class UnhealthyMounts(CheckFailed):
    """`failing` of `total` folders of one kind are not OK, the first of them since `since`. The text holds no names of folders, users or
    libraries: anyone may see it."""

    def __init__(self, failing: Sequence[MountState], total: int) -> None:
        self.failing = tuple(failing)
        self.since = min(state.since for state in failing)
        conditions = sorted({state.state.value for state in failing})
        super().__init__(f"{len(failing)} of {total}: {', '.join(conditions)}")


async def check_all_mounts(list_mount_states: ListMountStates) -> None:
    """A readiness check. Raises `UnhealthyMounts`."""
    states = await list_mount_states()
    if failing := [state for state in states if state.state is not MountCondition.OK]:
        raise UnhealthyMounts(failing, len(states))


class MountRegistry:
    """Collects the states of all sources."""

    def __init__(self, sources: Sequence[ListMountStates]) -> None:
        self._sources = tuple(sources)

    async def list_mount_states(self) -> list[MountState]:
        """The states, in the order of the sources."""
        return [state for states in await asyncio.gather(*(source() for source in self._sources)) for state in states]
