"""Cost and end of archive transfers: bounded read-ahead and memory, stop on disconnect, and no complete zip if a member is lost."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.archives.read_ahead import DEPTH_PER_TRANSFER, MAX_STREAMS
from tests.api.consistency import assert_consistent
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.archive_programs import assert_unpacks
from tests.real.archives import DownloadLink, download, link_of_many, make_link, upload_zeros
from tests.real.http_raw import RawConnection, RawResponse, fetch
from tests.real.process_usage import PeakMemory
from tests.real.proxy import Fault, Proxy
from tests.real.seaweedfs import SeaweedFS
from tests.real.service import Service
from tests.real.stacks import Engine, Stacks
from tests.real.uploads import UploadConnection, fresh_bytes, some_bytes, uploaded
from tests.real.waiting import eventually

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
GIBIBYTE = 1024 * MEBIBYTE
ALLOWED_GROWTH = 64 * MEBIBYTE
CLIENTS = 10
ADDED_SECONDS = 0.03
STALLED = 6


@pytest.fixture(scope="module")
def owner(service: Service) -> Account:
    return service.people.add()


@pytest.fixture(scope="module")
def client(service: Service, owner: Account) -> Iterator[httpx.Client]:
    with service.client(owner, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def slow_store(
    stacks: Stacks, seaweedfs: SeaweedFS, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Proxy]]:
    """A service whose store delays every read by 30 ms."""
    place = stacks.create("s3", tmp_path_factory.mktemp("slow"))
    with Proxy(seaweedfs.port) as proxy, Service(place, settings={"S3_ENDPOINT": proxy.endpoint}) as service:
        proxy.faults.append(Fault(matches=lambda request: request.method == "GET", delay=ADDED_SECONDS))
        yield service, proxy
        assert_consistent(place)


class TestAhead:
    def test_small_objects_are_asked_for_at_once_within_bounds(
        self, slow_store: tuple[Service, Proxy], tmp_path: Path
    ) -> None:
        service, proxy = slow_store
        owner = service.people.add()
        with service.client(owner) as client:
            photos = [(uploaded(client, content), content) for content in (some_bytes(20_000, n) for n in range(8))]
        link = link_of_many(service, owner.id, photos, 500)
        idle = proxy.most_connections = proxy.open_connections
        before = _reads(proxy)

        with service.client() as anonymous:
            download(anonymous, link, tmp_path / "small.zip")

        assert _reads(proxy) - before == 500
        assert 8 <= proxy.most_connections <= DEPTH_PER_TRANSFER + 1 + idle
        assert_unpacks(tmp_path / "small.zip", 500, 500 * 20_000)

    def test_many_clients_share_the_bound_and_all_stops_when_they_leave(
        self, slow_store: tuple[Service, Proxy]
    ) -> None:
        service, proxy = slow_store
        owner = service.people.add()
        with service.client(owner) as client:
            photos = [(uploaded(client, content), content) for content in (some_bytes(700_000, n) for n in range(8))]
        link = link_of_many(service, owner.id, photos, 400)
        clients = [UploadConnection(service.port, receive_buffer=16 * KIBIBYTE) for _ in range(STALLED)]
        for wire in clients:
            wire.send_head("GET", link.path, {})
            assert wire.head()[0] == 200

        assert proxy.most_connections <= MAX_STREAMS + STALLED + 4
        for wire in clients:
            wire.vanish()
        eventually(lambda: _quiet(proxy), "the store is left alone")

    def test_a_store_that_cuts_connections_is_not_noticed(
        self, slow_store: tuple[Service, Proxy], tmp_path: Path
    ) -> None:
        service, proxy = slow_store
        contents = [some_bytes(3 * MEBIBYTE + number, 100 + number) for number in range(8)]
        with service.client(service.people.add()) as client:
            link = make_link(client, [uploaded(client, content) for content in contents])
        cut = Fault(matches=lambda request: request.method == "GET", cut_after=MEBIBYTE, times=6)
        proxy.faults.insert(0, cut)

        with service.client() as anonymous:
            download(anonymous, link, tmp_path / "cut.zip")

        proxy.faults.remove(cut)
        assert cut.seen == 6
        assert_unpacks(tmp_path / "cut.zip", 8, sum(map(len, contents)))

    def test_a_client_that_leaves_stops_the_reading(self, slow_store: tuple[Service, Proxy]) -> None:
        service, proxy = slow_store
        owner = service.people.add()
        with service.client(owner) as client:
            photos = [(uploaded(client, content), content) for content in (some_bytes(50_000, n) for n in range(4))]
        link = link_of_many(service, owner.id, photos, 3000)
        before = _reads(proxy)
        wire = UploadConnection(service.port)
        wire.send_head("GET", link.path, {})
        assert wire.head()[0] == 200
        wire.receive(KIBIBYTE)
        wire.vanish()

        eventually(lambda: _quiet(proxy), "the store is left alone")
        assert _reads(proxy) - before < 300

    def test_open_files_are_bounded(
        self, stack: Engine, service: Service, owner: Account, client: httpx.Client
    ) -> None:
        """On disk one for each client beside its connection; in S3 what is ahead, too."""
        photos = [(uploaded(client, content), content) for content in (some_bytes(700_000, n) for n in range(8))]
        link = link_of_many(service, owner.id, photos, 400)
        client.get(link.path, headers={"range": "bytes=0-1000"}).raise_for_status()
        files = service.process.num_fds()
        clients = [UploadConnection(service.port, receive_buffer=16 * KIBIBYTE) for _ in range(STALLED)]
        for wire in clients:
            wire.send_head("GET", link.path, {})
            assert wire.head()[0] == 200

        ahead = MAX_STREAMS if stack == "s3" else 0
        assert service.process.num_fds() - files <= ahead + 2 * STALLED + 4
        for wire in clients:
            wire.vanish()
        eventually(lambda: service.process.num_fds() <= files + ahead + 2, "their descriptors are closed")


class TestMemory:
    def test_stays_flat_while_ten_clients_download(
        self, stack: Engine, start_service: StartService, soak: bool
    ) -> None:
        size = 2 * GIBIBYTE if soak else 40 * MEBIBYTE
        service = start_service(stack, spawned=False)
        owner = service.people.add()
        with service.client(owner, timeout=600) as client:
            parts = [upload_zeros(service, owner, size // 2 - number) for number in range(2)]
            link = make_link(client, parts)
            client.get(link.path, headers={"range": f"bytes=0-{20 * MEBIBYTE}"}).raise_for_status()

        with PeakMemory(service.process) as memory, ThreadPoolExecutor(CLIENTS) as threads:
            received = list(threads.map(lambda _: _drain(service, link), range(CLIENTS)))

        assert received == [link.size] * CLIENTS
        assert memory.growth < ALLOWED_GROWTH, f"{memory.growth / MEBIBYTE:.0f} MiB more"


class TestLosses:
    @pytest.fixture
    def service(self, stack: Engine, start_service: StartService) -> Service:
        """A service of its own: the refusals of other tests at the shared one are summed up in its log, and these with them."""
        return start_service(stack)

    @pytest.fixture
    def owner(self, service: Service) -> Account:
        return service.people.add()

    @pytest.fixture
    def client(self, service: Service, owner: Account) -> Iterator[httpx.Client]:
        with service.client(owner, timeout=120) as client:
            yield client

    async def test_a_member_deleted_before_the_first_byte_is_gone(self, service: Service, client: httpx.Client) -> None:
        ids = [uploaded(client, fresh_bytes(3000)) for _ in range(3)]
        link = make_link(client, ids)
        whole = (await _ask(service, link)).body
        start, stop = _local_header_offsets(whole)[1:3]
        before = len(service.log)
        client.request("DELETE", "/api/assets", json={"ids": ids[1:2], "force": True}).raise_for_status()

        answer = await _ask(service, link)
        headers_and_others = [
            await _ask(service, link, f"bytes=0-{start - 1}"),
            await _ask(service, link, f"bytes={stop}-"),
        ]
        lost = await _ask(service, link, f"bytes={stop - 1}-")

        assert (answer.status, lost.status) == (410, 410)
        assert ids[1] in answer.body.decode()
        assert [part.status for part in headers_and_others] == [206, 206]
        assert [part.body for part in headers_and_others] == [whole[:start], whole[stop:]]
        logged = service.log[before:]
        assert sum(ids[1] in line for line in logged.splitlines()) == 2  # one for each that was refused

    async def test_one_deleted_while_it_is_sent_ends_the_transfer(
        self, service: Service, owner: Account, client: httpx.Client
    ) -> None:
        contents = [fresh_bytes(size) for size in (6 * MEBIBYTE, 1000, 3000)]
        first, filler, last = ((uploaded(client, content), content) for content in contents)
        members = [first, *[filler] * 300, last]
        link = link_of_many(service, owner.id, members, len(members))
        whole = (await _ask(service, link)).body
        before = len(service.log)
        async with await RawConnection.open("127.0.0.1", service.port, receive_buffer=64 * KIBIBYTE) as connection:
            await connection.send_request("GET", link.path)
            status, _ = await connection.read_head()
            client.request("DELETE", "/api/assets", json={"ids": [last[0]], "force": True}).raise_for_status()
            body = await connection.read_up_to(link.size)

        assert status == 200
        assert 0 < len(body) < link.size
        assert body == whole[: len(body)]
        eventually(lambda: last[0] in service.log[before:], "the loss is logged")
        assert sum(last[0] in line for line in service.log[before:].splitlines()) == 1
        assert link.token not in service.log


def _drain(service: Service, link: DownloadLink) -> int:
    received = 0
    with service.client(timeout=600) as client, client.stream("GET", link.path) as answer:
        for chunk in answer.iter_raw(MEBIBYTE):
            received += len(chunk)
    return received


def _reads(proxy: Proxy) -> int:
    """The number of reads of originals that the store received."""
    return sum("/upload/" in request.path for request in proxy.of("GET"))


def _quiet(proxy: Proxy) -> bool:
    """Whether the store received no request for a quarter of a second."""
    before = len(proxy.requests)
    return not threading.Event().wait(0.25) and len(proxy.requests) == before


async def _ask(service: Service, link: DownloadLink, wanted: str | None = None) -> RawResponse:
    return await fetch("127.0.0.1", service.port, "GET", link.path, [("Range", wanted)] if wanted else [])


def _local_header_offsets(whole: bytes) -> list[int]:
    """The offsets of the local headers."""
    return [found.start() for found in re.finditer(b"PK\x03\x04", whole)]
