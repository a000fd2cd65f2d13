"""What libraries hold that is no ordinary file: it is taken in as well as may be, or named, and never keeps the rest out."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from app.storage.external import ExternalFiles
from tests.libraries.shelves import Mount, Shelf

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
async def test_a_file_of_another_age_is_taken_in(shelf: Shelf, mounted: Mount, seconds: int, shown: datetime) -> None:
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
