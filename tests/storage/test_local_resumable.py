"""Resumable writes to disks without locks, that are full, unmounted, or have lost bytes; and what is synced when."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest

from app.storage.errors import ObjectNotFound, StorageFull, StorageUnavailable
from app.storage.local import LocalBackend
from app.storage.resumable import ResumableWriteState
from tests.storage.guarantees.content import MEBIBYTE, fetch, pattern
from tests.storage.guarantees.resumable import KEY, append, assert_nothing_is_left, begin, commit

DATA = pattern(3 * MEBIBYTE)


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalBackend]:
    backend = LocalBackend(tmp_path / "media")
    yield backend
    await backend.aclose()


def unfinished_files(backend: LocalBackend) -> list[Path]:
    return [path for path in backend.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("is_contested", [False, True])
async def test_without_locks_a_newcomer_copies_what_an_older_writer_may_still_write(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch, is_contested: bool
) -> None:
    def no_locks(*_: object) -> NoReturn:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    saved = await begin(local, len(DATA))
    await append(local, saved, DATA[:MEBIBYTE], len(DATA))
    (file,) = unfinished_files(local)
    older = file.open("r+b")
    async with local.resumable_writes.append(
        KEY, saved.state, size=len(DATA), save=saved.begin_append(), is_contested=is_contested
    ) as appender:
        await appender.write(DATA[MEBIBYTE:])
        await appender.checkpoint()
    assert (unfinished_files(local) == [file]) is not is_contested
    if is_contested:
        older.write(b"late")
    older.close()
    await commit(local, saved, len(DATA))
    assert await fetch(local, KEY.value) == DATA
    await assert_nothing_is_left(local)


async def test_bytes_and_name_are_synced_before_the_state_is_saved(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync = os.fsync

    def recorded(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append(f"sync {'file' if target.is_file() else target.name} {os.fstat(descriptor).st_size}")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    saved = await begin(local, len(DATA))
    assert steps[-1].startswith("sync folder")
    steps.clear()
    save = saved.begin_append()

    async def record(state: ResumableWriteState) -> None:
        steps.append(f"save {state.offset}")
        await save(state)

    async with local.resumable_writes.append(
        KEY, saved.state, size=len(DATA), save=record, is_contested=False
    ) as appender:
        await appender.write(DATA[:1000])
        await appender.checkpoint()
        await appender.write(DATA[1000:])
        await appender.checkpoint()
    assert steps == ["save 0", "sync file 1000", "save 1000", f"sync file {len(DATA)}", f"save {len(DATA)}"]


async def test_an_append_to_a_full_disk_is_repeated_later(local: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = await begin(local, len(DATA))
    await append(local, saved, DATA[:MEBIBYTE], len(DATA))

    def no_space(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", no_space)
        with pytest.raises(StorageFull):
            await append(local, saved, DATA[MEBIBYTE:], len(DATA))
    assert saved.state.offset == MEBIBYTE
    await append(local, saved, DATA[MEBIBYTE:], len(DATA))
    await commit(local, saved, len(DATA))
    assert await fetch(local, KEY.value) == DATA


async def test_a_file_that_has_lost_bytes_is_a_loss(local: LocalBackend) -> None:
    saved = await begin(local, None)
    await append(local, saved, DATA, None)
    (file,) = unfinished_files(local)
    os.truncate(file, len(DATA) - 1)
    for attempt in (
        local.resumable_writes.check(KEY, saved.state),
        append(local, saved, b"x", None),
        commit(local, saved, len(DATA)),
    ):
        with pytest.raises(ObjectNotFound):
            await attempt


async def test_on_an_unmounted_disk_nothing_counts_as_lost(local: LocalBackend, tmp_path: Path) -> None:
    saved = await begin(local, len(DATA))
    await append(local, saved, DATA[:MEBIBYTE], len(DATA))
    local.root.rename(tmp_path / "away")
    local.root.mkdir()
    for attempt in (
        local.resumable_writes.check(KEY, saved.state),
        append(local, saved, DATA[MEBIBYTE:], len(DATA)),
        local.resumable_writes.abort(KEY, saved.state),
        commit(local, saved, MEBIBYTE),
    ):
        with pytest.raises(StorageUnavailable):
            await attempt
    local.root.rmdir()
    (tmp_path / "away").rename(local.root)
    await append(local, saved, DATA[MEBIBYTE:], len(DATA))
    await commit(local, saved, len(DATA))
    assert await fetch(local, KEY.value) == DATA
