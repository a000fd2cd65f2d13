"""Unusual files in a library: they are indexed as far as possible, or reported, and never keep other files from being indexed."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import stat
import string
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.libraries.scanning.walk import MAX_PATH_BYTES
from app.storage.errors import StorageError
from app.storage.external import ExternalFiles
from tests.libraries.library_tree import LibraryTree, Mount

FIRST = datetime(1677, 9, 21, 0, 12, 43, 145224, UTC)
LAST = datetime(2262, 4, 11, 23, 47, 16, 854775, UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-(2**62), FIRST),
        (-11_644_473_600, FIRST),  # 1601, the epoch of Windows
        (-1, datetime(1969, 12, 31, 23, 59, 59, 0, UTC)),
        (9_300_000_000, LAST),  # 2264
        (10_500_000_000, LAST),
        (2**62, LAST),
    ],
)
async def test_a_file_of_another_age_is_taken_in(
    tree: LibraryTree, mount_tmpfs: Mount, seconds: int, shown: datetime
) -> None:
    """On a tmpfs, which stores any modification time."""
    mount_tmpfs(tree.root)
    path = tree.write("odd.jpg")
    os.utime(path, (0, seconds))
    assert path.stat().st_mtime_ns == seconds * 10**9
    tree.write("plain.jpg")
    assert (await tree.scan()).new == 2
    assert (await tree.scan()).changed == 0
    tree.write("later.jpg")
    report = await tree.scan()
    assert (report.new, report.changed, report.trashed) == (1, 0, 0)
    asset = (await tree.assets())["odd.jpg"]
    assert (asset.file_created_at, asset.file_modified_at) == (shown, shown)
    files = ExternalFiles()
    try:
        # Otherwise processing takes it for another file than the scan found.
        info = await files.head(str(path))
        assert info.last_modified == shown
        async with files.read_stream(str(path), if_match=info.etag) as stream:
            assert b"".join([chunk async for chunk in stream.chunks]) == b"photo"
    finally:
        await files.aclose()


async def test_a_path_that_is_too_long_is_named_and_the_rest_taken_in(tree: LibraryTree) -> None:
    """With letters that no database compresses. The longest path is the same on both databases, to the byte."""
    letters = random.Random(7)
    tree.write("ok.jpg")
    folder = _deep_folder(tree.root, letters, MAX_PATH_BYTES - len("/fits.jpg"))
    for name in ("fits.jpg", "fits not.jpg"):
        (folder / name).write_bytes(b"photo")
    too_deep = _deep_folder(tree.root, letters, MAX_PATH_BYTES + 1)
    (too_deep / "b.jpg").write_bytes(b"photo")
    for new in (2, 0):
        report = await tree.scan()
        assert (report.new, report.complete, report.unreadable_count) == (new, True, 2)
        assert set(report.unreadable) == {
            f"{folder}/fits not.jpg: has a path of more than 2600 bytes",
            f"{too_deep}: has a path of more than 2600 bytes",
        }
    assert {name.rpartition("/")[2] for name in await tree.names()} == {"ok.jpg", "fits.jpg"}
    # Displaced by another file, it has a longer path in the catalogue until it is found.
    (folder / "fits.jpg").rename(tree.root / "moved.jpg")
    (tree.root / "ok.jpg").rename(folder / "fits.jpg")
    assert (await tree.scan()).renamed == 2
    (folder / "fits.jpg").unlink()
    (tree.root / "moved.jpg").rename(folder / "fits.jpg")
    report = await tree.scan()
    assert (report.renamed, report.trashed) == (1, 1)


def _deep_folder(root: Path, letters: random.Random, size: int) -> Path:
    """Creates a folder whose path has `size` bytes."""
    left = size - len(os.fsencode(root))
    while left > 1:
        length = left - 1 if left <= 200 else min(190, left - 10)
        root /= "".join(letters.choices(string.ascii_letters + string.digits, k=length))
        left -= length + 1
    root.mkdir(parents=True)
    return root


async def test_what_is_no_file_is_neither_taken_in_nor_waited_for(tree: LibraryTree) -> None:
    photo = tree.write("photo.jpg")
    os.mkfifo(tree.root / "pipe.jpg")
    (tree.root / "to a pipe.jpg").symlink_to(tree.root / "pipe.jpg")
    (tree.root / "folder.jpg").mkdir()
    here = os.open(tree.root, os.O_PATH | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{here}/socket.jpg")  # its own path may be longer than a socket address allows
    os.close(here)
    if os.geteuid() == 0:
        os.mknod(tree.root / "device.jpg", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    for new in (1, 0):
        report = await asyncio.wait_for(tree.scan(), 60)
        assert (report.found, report.new, report.complete, report.unreadable_count) == (1, new, True, 0)
    assert await tree.names() == {"photo.jpg"}
    photo.unlink()
    os.mkfifo(photo)
    assert (await asyncio.wait_for(tree.scan(), 60)).trashed == 1
    files = ExternalFiles()
    try:
        for name in ("photo.jpg", "socket.jpg", "device.jpg", "folder.jpg"):
            with pytest.raises(StorageError):
                await asyncio.wait_for(files.head(str(tree.root / name)), 60)
    finally:
        await files.aclose()
