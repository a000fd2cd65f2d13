"""Large local files leave by sendfile(2): the same bytes in the same order on connections that go on, no memory for clients that do not read,
and a short end where the file has become shorter. (Stalls, drains and vanishing clients: `test_connections.py`, `test_stops.py`,
`test_download_faults.py`.)"""

from __future__ import annotations

import io
import os
import random
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.storage.local.syscalls import count_cached_bytes
from tests.api.shared_services import SharedServices
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.archives import make_link
from tests.real.disk_folders import tells_what_is_in_memory
from tests.real.http_raw import RawConnection, RawResponse
from tests.real.process_usage import PeakMemory
from tests.real.service import Service
from tests.real.uploads import UploadConnection, fresh_bytes, uploaded
from tests.real.waiting import eventually

MEBIBYTE = 1024 * 1024
SIZE = 6 * MEBIBYTE + 13
ALLOWED_GROWTH = 16 * MEBIBYTE
SMALL_BUFFER = 16 * 1024


@pytest.fixture(scope="module")
def film(shared_services: SharedServices) -> tuple[Service, Account, str, bytes]:
    """A service, the owner of a film, its path and its bytes."""
    service = shared_services.get("local")
    owner, data = service.people.add(), fresh_bytes(SIZE)
    with service.client(owner) as client:
        return service, owner, f"/api/assets/{uploaded(client, data, 'film.mp4')}/original", data


def find_stored(service: Service, data: bytes) -> Path:
    (path,) = [path for path in service.stack.media.rglob("*.mp4") if path.read_bytes() == data]
    return path


def drop_from_memory(path: Path) -> None:
    """The kernel drops what is on the disk only. Where files lie in memory, as on tmpfs, nothing is cold."""
    with path.open("rb") as stored:
        os.fsync(stored.fileno())
        os.posix_fadvise(stored.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert not tells_what_is_in_memory(path.parent) or count_cached_bytes(stored.fileno(), 0, SIZE) < SIZE


@pytest.mark.parametrize("is_cold", [False, True])
@pytest.mark.parametrize("receive_buffer", [None, SMALL_BUFFER])
async def test_answers_of_all_sizes_come_in_order_over_one_connection(
    film: tuple[Service, Account, str, bytes], seed: int, receive_buffer: int | None, *, is_cold: bool
) -> None:
    service, owner, path, data = film
    dice = random.Random(seed)
    ranges = [(0, SIZE - 1), *(_choose_range(dice) for _ in range(12))]
    if is_cold:
        drop_from_memory(find_stored(service, data))
    async with await RawConnection.open("127.0.0.1", service.port, receive_buffer=receive_buffer) as connection:
        await connection.send(b"".join(_request(owner, path, f"bytes={first}-{last}") for first, last in ranges))
        answers = [await connection.read_response() for _ in ranges]
        fields = [("x-api-key", owner.key)]
        several = await connection.request("GET", path, [*fields, ("Range", "bytes=5-700000,900000-900003,-2000000")])
        head = await connection.request("HEAD", path, fields)
        whole = await connection.request("GET", path, fields)

    assert [answer.body for answer in answers] == [data[first : last + 1] for first, last in ranges]
    assert _read_parts(several) == [data[5:700_001], data[900_000:900_004], data[-2_000_000:]]
    assert (head.status, head.body) == (200, b"")
    assert whole.body == data
    assert whole.complete


def test_clients_that_stall_cost_no_buffers(start_service: StartService, *, soak: bool) -> None:
    clients = 1000 if soak else 150
    limits = ("MEDIAVAULT_CONNECTIONS", "MEDIAVAULT_DOWNLOADS_PER_USER", "MEDIAVAULT_ARCHIVES_PER_USER")
    settings: dict[str, str] = dict.fromkeys(limits, str(2 * clients))
    service = start_service("local", settings=settings, spawned=False)
    account = service.people.add()
    with service.client(account) as client:
        asset = uploaded(client, fresh_bytes(16 * MEBIBYTE), "film.mp4")
        path, link = f"/api/assets/{asset}/original", make_link(client, [asset])
        assert [client.get(each).status_code for each in (path, link.path)] == [200, 200]
        with ExitStack() as stalled, PeakMemory(service.process) as memory:
            for number in range(clients):
                wire = stalled.enter_context(UploadConnection(service.port, receive_buffer=SMALL_BUFFER))
                wire.send_head("GET", link.path if number % 10 == 0 else path, account.headers)
                assert wire.head()[0] == 200
            assert client.get(path, headers={"range": "bytes=0-65535"}).status_code == 206

    assert memory.growth < ALLOWED_GROWTH, f"{memory.growth / MEBIBYTE:.1f} MiB more"


async def test_a_zip_holds_the_members_and_any_range_is_its_slice(
    film: tuple[Service, Account, str, bytes], seed: int
) -> None:
    service, owner, _, _ = film
    dice = random.Random(seed)
    contents = [dice.randbytes(size) for size in (3_000_000, 10, 262_144, 1_048_577)]
    with service.client(owner) as client:
        link = make_link(client, [uploaded(client, content, "film.mp4") for content in contents])
    async with await RawConnection.open("127.0.0.1", service.port) as connection:
        whole = await connection.request("GET", link.path)
        with zipfile.ZipFile(io.BytesIO(whole.body)) as opened:
            assert [opened.read(name) for name in opened.namelist()] == contents
        for _ in range(20):
            length = dice.choice([1, 1000, 300_000, 2_000_000])
            first = dice.randrange(link.size - length)
            part = await connection.request("GET", link.path, [("Range", f"bytes={first}-{first + length - 1}")])
            assert part.body == whole.body[first : first + length]


async def test_a_file_that_becomes_shorter_ends_the_answer_short(start_service: StartService) -> None:
    """At a service of its own: the log of the shared one sums up the refusals of other tests, and this line with them."""
    service = start_service("local")
    owner = service.people.add()
    data, kept = fresh_bytes(16 * MEBIBYTE), 9 * MEBIBYTE
    with service.client(owner) as client:
        asset = uploaded(client, data, "cut.mp4")
        stored = find_stored(service, data)
        async with await RawConnection.open("127.0.0.1", service.port, receive_buffer=SMALL_BUFFER) as connection:
            await connection.send_request("GET", f"/api/assets/{asset}/original", [("x-api-key", owner.key)])
            status, _ = await connection.read_head()
            os.truncate(stored, kept)
            received = await connection.read_to_end()
        stored.write_bytes(data)
        whole = client.get(f"/api/assets/{asset}/original")

    assert status == 200
    assert len(received) <= kept
    assert data.startswith(received)
    assert whole.content == data
    eventually(lambda: "transfer cut short" in service.log, "the log tells it")


def _choose_range(dice: random.Random) -> tuple[int, int]:
    length = dice.choice([1, 1000, 65_536, 262_144, 262_145, 1_048_576, 1_048_577, 3_000_000])
    first = dice.randrange(SIZE - length)
    return first, first + length - 1


def _request(owner: Account, path: str, wanted: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: here\r\nx-api-key: {owner.key}\r\nRange: {wanted}\r\n\r\n".encode()


def _read_parts(answer: RawResponse) -> list[bytes]:
    """The parts of a multipart/byteranges body."""
    boundary = (answer.header("content-type") or "").partition("boundary=")[2].encode()
    parts = (b"\r\n" + answer.body).split(b"\r\n--" + boundary)
    return [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]]
