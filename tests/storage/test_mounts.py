"""The local backend while disks are mounted and unmounted: acknowledged objects are visible, and a remounted disk is used again."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from app.storage.errors import ObjectNotFound, StorageUnavailable
from app.storage.key import Key
from app.storage.local import LocalBackend
from app.storage.local.file_writer import PendingFile
from tests.real.mounts import DiskMounts, MountedDisk, disks_below
from tests.storage.guarantees.content import fetch, store

FOLDER = "upload"
WITNESS = Key(f"{FOLDER}/.witness")
OURS = b"ours\n"

Place = tuple[LocalBackend, MountedDisk, Path]
"""The backend, its first disk, and the mount point."""


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[DiskMounts]:
    with disks_below(tmp_path) as disks:
        yield disks


@pytest.fixture(params=["the whole", "one folder"])
async def place(request: pytest.FixtureRequest, disks: DiskMounts, tmp_path: Path) -> AsyncIterator[Place]:
    """A disk for the whole media location, or for one folder in it."""
    root = tmp_path / "media"
    spot = root if request.param == "the whole" else root / FOLDER
    disk = disks.make()
    disk.mount(spot)
    backend = LocalBackend(root)
    await backend.ensure_prefix(FOLDER)
    await backend.put_object(WITNESS, OURS)
    await backend.check_marker(WITNESS, OURS)
    await store(backend, f"{FOLDER}/before", b"before")
    yield backend, disk, spot
    await backend.aclose()


async def test_what_is_not_in_sight_is_neither_kept_nor_lost_and_comes_back(place: Place) -> None:
    backend, disk, spot = place
    disk.unmount(spot)
    for attempt in (
        store(backend, f"{FOLDER}/new", b"new"),
        backend.put_object(Key(f"{FOLDER}/new"), b"new"),
        backend.delete_object(Key(f"{FOLDER}/before")),
        backend.head(Key(f"{FOLDER}/missing")),
    ):
        with pytest.raises(StorageUnavailable):
            await attempt
    with pytest.raises(ObjectNotFound):
        await backend.check_marker(WITNESS, OURS)
    assert list(spot.rglob("*")) == [], "nothing is made below the mount point"

    disk.mount(spot)
    await backend.check_marker(WITNESS, OURS)
    assert await fetch(backend, f"{FOLDER}/before") == b"before"
    await store(backend, f"{FOLDER}/new", b"new")
    assert [path.name for path in disk.content.rglob("new")] == ["new"]


async def test_it_moves_to_another_disk_with_our_witness_and_lets_go_of_the_old_one(
    place: Place, disks: DiskMounts
) -> None:
    """A network share was remounted: the same files on another device."""
    backend, disk, spot = place
    assert await fetch(backend, f"{FOLDER}/before") == b"before"
    copy = disks.make()
    shutil.copytree(disk.content, copy.content, dirs_exist_ok=True)
    disk.unmount(spot)
    copy.mount(spot)
    with pytest.raises(StorageUnavailable):
        await store(backend, f"{FOLDER}/new", b"new")

    await backend.check_marker(WITNESS, OURS)
    await store(backend, f"{FOLDER}/new", b"new")

    assert list(disk.content.rglob("new")) == []
    assert [path.name for path in copy.content.rglob("new")] == ["new"]
    assert await fetch(backend, f"{FOLDER}/new") == b"new"
    disk.eject()


async def test_a_write_that_ends_on_another_disk_than_it_began_on_is_not_acknowledged(
    place: Place, disks: DiskMounts
) -> None:
    backend, disk, spot = place
    copy = disks.make()
    shutil.copytree(disk.content, copy.content, dirs_exist_ok=True)

    async def write() -> None:
        async with backend.write_stream(Key(f"{FOLDER}/new")) as writer:
            await writer.write(b"first half")
            disk.unmount(spot)
            copy.mount(spot)
            await backend.check_marker(WITNESS, OURS)
            await writer.write(b"second half")

    with pytest.raises(StorageUnavailable):
        await write()
    for content in (disk.content, copy.content):
        assert sorted(path.name for path in content.rglob("*") if path.is_file()) == [".witness", "before"]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_disk_that_goes_at_the_last_moment_is_noticed(
    place: Place, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The disk is unmounted just before the rename, and just after."""
    backend, disk, spot = place
    rename = PendingFile._rename

    def go(pending: PendingFile, *, replace: bool) -> None:
        steps: list[Callable[[], None]] = [lambda: disk.unmount(spot), lambda: rename(pending, replace=replace)]
        for step in steps if moment == "before" else reversed(steps):
            step()

    monkeypatch.setattr(PendingFile, "_rename", go)
    with pytest.raises(StorageUnavailable):
        await store(backend, f"{FOLDER}/new", b"new")
    assert list(spot.rglob("*")) == []


@pytest.mark.parametrize("change", ["removed", "replaced"])
async def test_a_folder_whose_witness_is_another_takes_nothing_until_it_is_recognised(
    place: Place, change: str
) -> None:
    backend, disk, _ = place
    (witness,) = disk.content.rglob(".witness")
    witness.rename(disk.content / "aside")
    if change == "replaced":
        witness.write_bytes(OURS)
    with pytest.raises(StorageUnavailable):
        await store(backend, f"{FOLDER}/new", b"new")
    if change == "replaced":
        await backend.check_marker(WITNESS, OURS)
    else:
        (disk.content / "aside").rename(witness)
    await store(backend, f"{FOLDER}/new", b"new")


async def test_another_folder_is_not_held_up(disks: DiskMounts, tmp_path: Path) -> None:
    disk, root = disks.make(), tmp_path / "media"
    disk.mount(root / "thumbs")
    backend = LocalBackend(root)
    for folder in ("upload", "thumbs"):
        await backend.put_object(Key(f"{folder}/.witness"), OURS)
        await backend.check_marker(Key(f"{folder}/.witness"), OURS)
    disk.unmount(root / "thumbs", lazily=False)

    with pytest.raises(StorageUnavailable):
        await store(backend, "thumbs/new", b"new")
    await store(backend, "upload/new", b"new")
    with pytest.raises(ObjectNotFound):
        await backend.check_marker(Key("thumbs/.witness"), OURS)

    disk.mount(root / "thumbs")
    await backend.check_marker(Key("thumbs/.witness"), OURS)
    await store(backend, "thumbs/new", b"new")
    await backend.aclose()


async def test_a_folder_that_is_back_with_the_whole_is_not_trusted_before_it_is_recognised(
    disks: DiskMounts, tmp_path: Path
) -> None:
    """The media location and one folder in it are separate disks; after both were unmounted only the first is back."""
    whole, thumbs, root = disks.make(), disks.make(), tmp_path / "media"
    whole.mount(root)
    thumbs.mount(root / "thumbs")
    backend = LocalBackend(root)
    for folder in ("upload", "thumbs"):
        await backend.put_object(Key(f"{folder}/.witness"), OURS)
        await backend.check_marker(Key(f"{folder}/.witness"), OURS)
    copy = disks.make()
    shutil.copytree(whole.content / "upload", copy.content / "upload")
    (copy.content / "thumbs").mkdir()
    thumbs.unmount(root / "thumbs")
    whole.unmount(root)
    copy.mount(root)

    await backend.check_marker(Key("upload/.witness"), OURS)
    await store(backend, "upload/new", b"new")
    with pytest.raises(StorageUnavailable):
        await store(backend, "thumbs/new", b"new")
    assert list((root / "thumbs").iterdir()) == []
    await backend.aclose()
