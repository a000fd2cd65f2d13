"""Upload sessions on both stacks: chunks of all sizes, what survives broken connections, takeovers, and completion."""

from __future__ import annotations

import pytest

from app.catalog.schema.upload_records import UploadState
from app.uploads.errors import ClientDisconnected
from tests.uploads.sessions.session_place import SessionPlace, make_photo

MIB = 1024 * 1024


@pytest.mark.parametrize(
    "sizes",
    [[1], [1, 1, 1], [100], [65536], [65535, 1, 1], [65536 + 1, 70000], [3 * MIB, 9 * MIB, 5 * MIB - 1, 1]],
    ids=str,
)
async def test_chunks_of_any_size_make_the_file(place: SessionPlace, sizes: list[int]) -> None:
    data = make_photo(sum(sizes))
    status = await place.create(len(data))
    assert (status.state, status.offset) == (UploadState.CREATED, 0)
    for size in sizes:
        offset = status.offset
        status = await place.send(status.id, offset, data[offset : offset + size])
        assert status.offset == offset + size
    assert status.state is UploadState.COMPLETE
    await place.assert_stored(status, data)
    assert (await place.status(status.id)).result == status.result


async def test_what_arrived_before_the_connection_broke_is_kept(place: SessionPlace) -> None:
    data = make_photo(10 * MIB)
    status = await place.create(len(data))
    for end in (1000, 100_000, 9 * MIB):
        offset = (await place.status(status.id)).offset
        with pytest.raises(ClientDisconnected):
            await place.send(status.id, offset, data[offset:], breaks_after=end - offset)
        assert (await place.status(status.id)).offset == end
    status = await place.send(status.id, 9 * MIB, data[9 * MIB :])
    await place.assert_stored(status, data)
