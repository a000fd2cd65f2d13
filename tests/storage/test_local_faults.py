"""The local backend on disks that fail, vanish, or lack features."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from app.storage.backend import CHUNK_BYTES
from app.storage.errors import (
    InvalidKey,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    ObjectTooLarge,
    StorageError,
    StorageFull,
    StoragePermission,
    StorageUnavailable,
)
from app.storage.key import Key
from app.storage.local import LocalBackend, syscalls
from app.storage.local.os_errors import translate_os_error
from tests.storage.guarantees.content import MEBIBYTE, fetch, pattern, store

NOW = timedelta(0)


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalBackend]:
    backend = LocalBackend(tmp_path / "media")
    yield backend
    await backend.aclose()


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if not path.is_dir())


async def test_where_there_are_no_locks_age_decides(local: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> NoReturn:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for name, hours in (("young", 1), ("old", 25)):
        path = local.root / f".mediavault-{name}.tmp"
        path.write_bytes(b"")
        moment = path.stat().st_mtime - hours * 3600
        os.utime(path, (moment, moment))
    await store(local, "a", b"written")
    assert await local.sweep_leftovers(NOW) == 1
    assert _names(local.root) == [".mediavault-young.tmp", "a"]


async def test_without_openat2_a_link_that_leads_out_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscalls, "_syscall", None)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"secret")
    (tmp_path / "media").mkdir()
    (tmp_path / "media/link").symlink_to("../outside")
    local = LocalBackend(tmp_path / "media")
    for attempt in (
        fetch(local, "link/secret"),
        store(local, "link/new", b"new"),
        local.delete_object(Key("link/secret")),
    ):
        with pytest.raises(StoragePermission):
            await attempt
    await store(local, "a/b", b"inside")
    assert await fetch(local, "a/b") == b"inside"
    assert _names(tmp_path / "outside") == ["secret"]
    await local.aclose()


@pytest.mark.parametrize("fault", [errno.EOPNOTSUPP, errno.EINVAL])
async def test_a_file_system_that_cannot_tell_is_read_in_threads(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    data = pattern(3 * CHUNK_BYTES + 1)
    await store(local, "file", data)
    asked = 0

    def cannot_tell(*_: object) -> NoReturn:
        nonlocal asked
        asked += 1
        raise OSError(fault, "not here")

    monkeypatch.setattr("app.storage.local.file_reader.read_cached", cannot_tell)
    for _ in range(3):
        assert await fetch(local, "file") == data
    assert asked == 1


@pytest.mark.parametrize("missing", ["renameat2", "renameat2 and links"])
async def test_a_taken_key_is_refused_whatever_the_file_system_can_do(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(syscalls, "_renameat2", None)
    if missing != "renameat2":

        def no_links(*_: object, **__: object) -> NoReturn:
            raise PermissionError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", no_links)

    async def come_late() -> None:
        async with local.write_stream(Key("a/file")) as writer:
            await writer.write(b"late")
            await store(local, "a/file", b"early")

    with pytest.raises(ObjectExists):
        await come_late()
    await local.move_object(Key("a/file"), Key("b/file"))
    assert await fetch(local, "b/file") == b"early"
    assert _names(local.root) == ["file"]


async def test_a_media_folder_that_is_not_the_one_of_the_start_takes_and_loses_nothing(
    local: LocalBackend, tmp_path: Path
) -> None:
    """Its disk was unmounted, or another one was mounted over it."""
    await store(local, "a/here", b"here")
    local.root.rename(tmp_path / "unmounted")
    local.root.mkdir()
    for attempt in (
        store(local, "a/new", b"new"),
        local.put_object(Key("a/here"), b"new"),
        local.probe(),
        local.head(Key("a/missing")),
        fetch(local, "a/missing"),
        local.delete_object(Key("a/here")),
        local.move_object(Key("a/here"), Key("a/there")),
    ):
        with pytest.raises(StorageUnavailable):
            await attempt
    assert _names(tmp_path / "unmounted") == ["here"]
    assert _names(local.root) == []


async def test_a_folder_of_its_own_disk_is_watched_too(local: LocalBackend, tmp_path: Path) -> None:
    await store(local, "upload/here", b"here")
    (local.root / "upload").rename(tmp_path / "unmounted")
    for make_mount_point in (False, True):
        if make_mount_point:
            (local.root / "upload").mkdir(exist_ok=True)
        for attempt in (
            store(local, "upload/new", b"new"),
            fetch(local, "upload/here"),
            local.delete_object(Key("upload/here")),
        ):
            with pytest.raises(StorageUnavailable):
                await attempt
    assert _names(local.root) == []
    await store(local, "thumbs/other", b"another folder")


async def test_folders_that_were_there_at_the_start_are_watched(local: LocalBackend, tmp_path: Path) -> None:
    await local.ensure_prefix("upload")
    again = LocalBackend(local.root)
    (local.root / "upload").rename(tmp_path / "unmounted")
    (local.root / "upload").mkdir()
    with pytest.raises(StorageUnavailable):
        await store(again, "upload/new", b"new")
    await again.aclose()


async def test_more_than_the_disk_has_is_refused_before_the_first_byte(local: LocalBackend) -> None:
    with pytest.raises(StorageFull):
        async with local.write_stream(Key("a/huge"), size=2**60):
            pytest.fail("the write was begun")
    assert _names(local.root) == []


@pytest.mark.parametrize(
    ("function", "fault", "expected"),
    [
        ("writev", errno.ENOSPC, StorageFull),
        ("writev", errno.EDQUOT, StorageFull),
        ("writev", errno.EFBIG, ObjectTooLarge),
        ("writev", errno.EIO, StorageUnavailable),
        ("fsync", errno.EIO, StorageUnavailable),
        ("fsync", errno.ENOSPC, StorageFull),
        ("open", errno.EMFILE, StorageUnavailable),
        ("open", errno.EROFS, StoragePermission),
    ],
)
async def test_a_fault_in_the_middle_of_a_write_is_typed_and_leaves_nothing(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch, function: str, fault: int, expected: type[StorageError]
) -> None:
    await store(local, "a/first", b"first")

    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(fault, os.strerror(fault))

    with monkeypatch.context() as faulty:
        faulty.setattr(os, function, fail)
        with pytest.raises(expected) as failure:
            await store(local, "a/second", pattern(3 * MEBIBYTE))
    assert (failure.value.key, failure.value.backend) == ("a/second", "local")
    assert _names(local.root) == ["first"]


@pytest.mark.parametrize(
    ("number", "reading", "writing"),
    [
        (errno.ENOENT, ObjectNotFound, StorageUnavailable),
        (errno.ENOTDIR, ObjectNotFound, InvalidKey),
        (errno.EISDIR, ObjectNotFound, InvalidKey),
        (errno.EEXIST, ObjectExists, ObjectExists),
        (errno.ENAMETOOLONG, InvalidKey, InvalidKey),
        (errno.EACCES, StoragePermission, StoragePermission),
        (errno.EPERM, StoragePermission, StoragePermission),
        (errno.EROFS, StoragePermission, StoragePermission),
        (errno.EXDEV, StoragePermission, StoragePermission),
        (errno.ELOOP, ObjectNotFound, StoragePermission),
        (errno.ENOSPC, StorageFull, StorageFull),
        (errno.EDQUOT, StorageFull, StorageFull),
        (errno.EFBIG, ObjectTooLarge, ObjectTooLarge),
        (errno.ESTALE, ObjectChanged, StorageUnavailable),
        (errno.EIO, StorageUnavailable, StorageUnavailable),
        (errno.EMFILE, StorageUnavailable, StorageUnavailable),
        (errno.ENOMEM, StorageUnavailable, StorageUnavailable),
        (errno.EUCLEAN, StorageUnavailable, StorageUnavailable),
    ],
)
def test_every_errno_has_a_type(number: int, reading: type[StorageError], writing: type[StorageError]) -> None:
    error = OSError(number, os.strerror(number))
    assert type(translate_os_error(error, "a", "local")) is reading
    assert type(translate_os_error(error, "a", "local", is_write=True)) is writing
