"""What libraries hold that is no ordinary file: it is taken in as well as may be, or named, and never keeps the rest out."""

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
    shelf: LibraryTree, mounted: Mount, seconds: int, shown: datetime
) -> None:
    """On a tmpfs, which keeps any time."""
    mounted(shelf.root)
    path = shelf.write("odd.jpg")
    os.utime(path, (0, seconds))
    assert path.stat().st_mtime_ns == seconds * 10**9
    shelf.write("plain.jpg")
    assert (await shelf.scan()).new == 2
    assert (await shelf.scan()).changed == 0
    shelf.write("later.jpg")
    report = await shelf.scan()
    assert (report.new, report.changed, report.trashed) == (1, 0, 0)
    asset = (await shelf.assets())["odd.jpg"]
    assert (asset.file_created_at, asset.file_modified_at) == (shown, shown)
    files = ExternalFiles()
    try:
        # Else who processes it takes it for another file than the scan found.
        info = await files.head(str(path))
        assert info.last_modified == shown
        async with files.read_stream(str(path), if_match=info.etag) as stream:
            assert b"".join([chunk async for chunk in stream.chunks]) == b"photo"
    finally:
        await files.aclose()


async def test_a_path_that_is_too_long_is_named_and_the_rest_taken_in(shelf: LibraryTree) -> None:
    """Of letters that no database makes shorter; to the byte the longest that is taken in, and on both databases the same."""
    letters = random.Random(7)
    shelf.write("ok.jpg")
    folder = _deep_folder(shelf.root, letters, MAX_PATH_BYTES - len("/fits.jpg"))
    for name in ("fits.jpg", "fits not.jpg"):
        (folder / name).write_bytes(b"photo")
    too_deep = _deep_folder(shelf.root, letters, MAX_PATH_BYTES + 1)
    (too_deep / "b.jpg").write_bytes(b"photo")
    for new in (2, 0):
        report = await shelf.scan()
        assert (report.new, report.complete, report.unreadable_count) == (new, True, 2)
        assert set(report.unreadable) == {
            f"{folder}/fits not.jpg: has a path of more than 2600 bytes",
            f"{too_deep}: has a path of more than 2600 bytes",
        }
    assert {name.rpartition("/")[2] for name in await shelf.names()} == {"ok.jpg", "fits.jpg"}
    # Its name is another file's now: it keeps a longer one until it is found.
    (folder / "fits.jpg").rename(shelf.root / "moved.jpg")
    (shelf.root / "ok.jpg").rename(folder / "fits.jpg")
    assert (await shelf.scan()).renamed == 2
    (folder / "fits.jpg").unlink()
    (shelf.root / "moved.jpg").rename(folder / "fits.jpg")
    report = await shelf.scan()
    assert (report.renamed, report.trashed) == (1, 1)


def _deep_folder(root: Path, letters: random.Random, size: int) -> Path:
    """With a path of so many bytes."""
    left = size - len(os.fsencode(root))
    while left > 1:
        length = left - 1 if left <= 200 else min(190, left - 10)
        root /= "".join(letters.choices(string.ascii_letters + string.digits, k=length))
        left -= length + 1
    root.mkdir(parents=True)
    return root


async def test_what_is_no_file_is_neither_taken_in_nor_waited_for(shelf: LibraryTree) -> None:
    photo = shelf.write("photo.jpg")
    os.mkfifo(shelf.root / "pipe.jpg")
    (shelf.root / "to a pipe.jpg").symlink_to(shelf.root / "pipe.jpg")
    (shelf.root / "folder.jpg").mkdir()
    here = os.open(shelf.root, os.O_PATH | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{here}/socket.jpg")  # its own path may be longer than an address may be
    os.close(here)
    if os.geteuid() == 0:
        os.mknod(shelf.root / "device.jpg", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    for new in (1, 0):
        report = await asyncio.wait_for(shelf.scan(), 60)
        assert (report.found, report.new, report.complete, report.unreadable_count) == (1, new, True, 0)
    assert await shelf.names() == {"photo.jpg"}
    photo.unlink()
    os.mkfifo(photo)
    assert (await asyncio.wait_for(shelf.scan(), 60)).trashed == 1
    files = ExternalFiles()
    try:
        for name in ("photo.jpg", "socket.jpg", "device.jpg", "folder.jpg"):
            with pytest.raises(StorageError):
                await asyncio.wait_for(files.head(str(shelf.root / name)), 60)
    finally:
        await files.aclose()
