"""The state of a media folder: one probe at a time, with a time-out; and since when the state lasts."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import cast

import pytest

from app.health import media_folder
from app.health.media_folder import MediaFolder, MountCheckFailed
from app.health.mount_states import (
    MountCondition,
    MountKind,
    MountRegistry,
    MountState,
    UnhealthyMounts,
    check_all_mounts,
)
from app.storage.backend import DiskSpace, StorageBackend
from app.storage.errors import ObjectChanged, ObjectNotFound, StorageError, StoragePermission, StorageUnavailable
from app.storage.key import Key

MARKER = Key("upload/.immich")


class Store:
    """A storage backend that answers with a given error, or hangs."""

    name = "local"

    def __init__(self) -> None:
        self.error: StorageError | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = 0

    async def check_marker(self, marker: Key, text: bytes) -> None:
        assert (marker, text) == (MARKER, b"ours")
        self.asked += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error

    async def disk_space(self, prefix: str) -> DiskSpace:
        return DiskSpace(total=100, used=40, free=50)


def make_folder(store: Store) -> MediaFolder:
    return MediaFolder("upload", "upload", MARKER, "/media/upload/.immich", cast("StorageBackend", store))


@pytest.mark.parametrize(
    ("error", "condition", "told"),
    [
        (ObjectNotFound(MARKER.value, "local"), MountCondition.UNMOUNTED, "/media/upload/.immich is missing"),
        (ObjectChanged(MARKER.value, "local"), MountCondition.NOT_OURS, "names another installation"),
        (StorageUnavailable(MARKER.value, "local", "I/O error"), MountCondition.UNAVAILABLE, "I/O error"),
        (StoragePermission(MARKER.value, "local", "denied"), MountCondition.UNAVAILABLE, "denied"),
    ],
)
async def test_what_is_wrong_is_told_apart(error: StorageError, condition: MountCondition, told: str) -> None:
    store = Store()
    folder = make_folder(store)
    store.error = error

    failure = await folder.probe(b"ours")

    assert isinstance(failure, MountCheckFailed) is (condition is not MountCondition.UNAVAILABLE)
    assert told in str(failure)
    assert (folder.state.state, folder.state.free_bytes, folder.state.total_bytes) == (condition, None, None)
    assert folder.state.error == str(failure)


async def test_it_remembers_since_when() -> None:
    store = Store()
    folder = make_folder(store)
    start = datetime.now(UTC)
    assert await folder.probe(b"ours") is None
    well = folder.state
    assert (well.state, well.error, well.free_bytes, well.total_bytes) == (MountCondition.OK, None, 50, 100)
    assert start <= well.since <= datetime.now(UTC)
    await folder.probe(b"ours")
    assert folder.state.since == well.since

    store.error = ObjectNotFound(MARKER.value, "local")
    await folder.probe(b"ours")
    gone = folder.state
    await folder.probe(b"ours")
    assert gone.since > well.since
    assert folder.state.since == gone.since
    store.error = None
    await folder.probe(b"ours")
    assert folder.state.since > gone.since


async def test_a_disk_that_hangs_is_asked_once_and_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_folder, "PROBE_TIMEOUT_SECONDS", 0.05)
    store = Store()
    folder = make_folder(store)
    store.answers.clear()

    async with asyncio.timeout(10):
        failures = await asyncio.gather(*(folder.probe(b"ours") for _ in range(20)))
        failures.append(await folder.probe(b"ours"))

    assert store.asked == 1
    assert all(isinstance(failure, StorageUnavailable) for failure in failures)
    assert folder.state.state is MountCondition.UNAVAILABLE
    monkeypatch.undo()
    store.answers.set()
    assert await folder.probe(b"ours") is None
    assert folder.state.state is MountCondition.OK
    await folder.aclose()


async def test_closing_ends_a_look_that_hangs() -> None:
    store = Store()
    folder = make_folder(store)
    store.answers.clear()
    probe = asyncio.ensure_future(folder.probe(b"ours"))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        probe.cancel()
        await folder.aclose()


def _state(name: str, state: MountCondition, day: int) -> MountState:
    error = None if state is MountCondition.OK else f"/secret/{name}"
    return MountState(name, MountKind.LIBRARY, state, datetime(2026, 1, day, tzinfo=UTC), error, None, None)


async def test_a_detail_tells_how_many_are_not_well_and_no_names() -> None:
    async def states() -> list[MountState]:
        return [
            _state("family", MountCondition.OK, 1),
            _state("film", MountCondition.UNMOUNTED, 3),
            _state("old", MountCondition.UNMOUNTED, 2),
        ]

    with pytest.raises(UnhealthyMounts, match=r"^2 of 3: unmounted$") as failure:
        await check_all_mounts(states)
    assert failure.value.since == datetime(2026, 1, 2, tzinfo=UTC)


async def test_all_well_is_well() -> None:
    async def states() -> list[MountState]:
        return [_state("family", MountCondition.OK, 1)]

    await check_all_mounts(states)


async def test_every_watcher_is_asked() -> None:
    async def first() -> list[MountState]:
        return [_state("upload", MountCondition.OK, 1)]

    async def second() -> list[MountState]:
        return [_state("film", MountCondition.UNMOUNTED, 2), _state("old", MountCondition.OK, 3)]

    assert [state.name for state in await MountRegistry([first, second]).list_mount_states()] == [
        "upload",
        "film",
        "old",
    ]


async def test_who_comes_when_a_look_ends_takes_it_from_nobody() -> None:
    """The first of several waiting callers starts the next probe before the others have read the result."""
    folder = make_folder(Store())

    async def ask_again_and_again() -> list[object]:
        return [await folder.probe(b"ours") for _ in range(5)]

    assert await asyncio.gather(*(ask_again_and_again() for _ in range(4))) == [[None] * 5] * 4
    await folder.aclose()
