"""One user's downloads from S3 do not keep another user, or the same one, from seeing a thumbnail."""

from __future__ import annotations

from contextlib import ExitStack

from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.uploads import UploadConnection, fresh_bytes, uploaded

MEBIBYTE = 1024 * 1024
SMALL_BUFFER = 32 * 1024
CONNECTIONS = 8
SETTINGS = {"MEDIAVAULT_S3_CONNECTIONS": str(CONNECTIONS), "MEDIAVAULT_S3_DEADLINE": "5"}
"""The deadline is shorter than the time after which a connection is taken from a stalled client anyway."""


def begin_download(service: Service, account: Account, target: str) -> UploadConnection:
    """A client that has read the head of the answer, and reads nothing more."""
    wire = UploadConnection(service.port, receive_buffer=SMALL_BUFFER)
    wire.send_head("GET", target, account.headers)
    assert wire.head()[0] == 200
    return wire


def finish_download(wire: UploadConnection, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        piece = wire.receive(MEBIBYTE)
        assert piece, "the answer was cut short"
        received += piece
    return bytes(received)


def test_many_slow_downloads_of_one_user_keep_nobody_from_seeing_a_thumbnail(
    start_service: StartService, *, soak: bool
) -> None:
    service = start_service("s3", settings=SETTINGS)
    greedy, other = service.people.add(), service.people.add()
    data, small = fresh_bytes(6 * MEBIBYTE), [fresh_bytes(20_000) for _ in range(20)]
    with ExitStack() as stack, service.client(greedy) as greedy_client, service.client(other) as other_client:
        large = uploaded(greedy_client, data)
        thumbnails = [uploaded(other_client, each) for each in small]
        own = uploaded(greedy_client, small[0])
        slow = [
            stack.enter_context(begin_download(service, greedy, f"/api/assets/{large}/original"))
            for _ in range(200 if soak else 3 * CONNECTIONS)
        ]
        for asset, expected in zip(thumbnails, small, strict=True):
            assert other_client.get(f"/api/assets/{asset}/original").content == expected
        assert greedy_client.get(f"/api/assets/{own}/original").content == small[0]
        for wire in slow:
            assert finish_download(wire, len(data)) == data
