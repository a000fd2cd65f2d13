"""What is known of each folder that the service stands on: the media folders, and the external libraries.

Whoever watches a place tells its state by `MountState`, in bounded time; nothing here looks at a disk.
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


class MountCondition(StrEnum):
    OK = "ok"
    UNMOUNTED = "unmounted"
    """What is known to belong there is missing: no disk, an empty mount point, an emptied bucket."""
    NOT_OURS = "not_ours"
    """Something is there, and it belongs to somebody else."""
    READ_ONLY = "read_only"
    """It is ours, and no file can be made there."""
    UNAVAILABLE = "unavailable"
    """It can not be told: no answer in time, no permission, an error of the device."""


@dataclass(frozen=True, slots=True)
class MountState:
    """One folder (or bucket). `name` is what people call it: `upload`, or a library's name.

    `since` is when the state began as far as it was seen, aware UTC; `error` is one line for the operator, None when all is
    well. `free_bytes` and `total_bytes` are those of its file system; None where there is none, as on S3, or it can not be asked.
    """

    name: str
    kind: MountKind
    state: MountCondition
    since: datetime
    error: str | None
    free_bytes: int | None
    total_bytes: int | None


ListMountStates = Callable[[], Awaitable[list[MountState]]]
"""Tells the states of one watcher's places, in the order to be shown. Never raises for a place that is not well."""


class UnhealthyMounts(CheckFailed):
    """Some of a kind of places are not well: `failing` of `total`, the first of them since `since`. Names nobody: anyone may see it."""

    def __init__(self, failing: Sequence[MountState], total: int) -> None:
        self.failing = tuple(failing)
        self.since = min(state.since for state in failing)
        conditions = sorted({state.state.value for state in failing})
        super().__init__(f"{len(failing)} of {total}: {', '.join(conditions)}")


async def check_all_mounts(list_mount_states: ListMountStates) -> None:
    """A check of readiness. Raises `UnhealthyMounts`."""
    found = await list_mount_states()
    if failing := [state for state in found if state.state is not MountCondition.OK]:
        raise UnhealthyMounts(failing, len(found))


class MountRegistry:
    """Everything that is watched, by whom ever."""

    def __init__(self, sources: Sequence[ListMountStates]) -> None:
        self._sources = tuple(sources)

    async def list_mount_states(self) -> list[MountState]:
        """In the order of the watchers."""
        return [state for states in await asyncio.gather(*(watcher() for watcher in self._sources)) for state in states]
