"""Connection limits against hostile clients: memory through pipelining, stalled downloads, and many connections."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import ExitStack, suppress
from typing import Self

import pytest

from app.api.http.protocol import HEAD_TIMEOUT_SECONDS
from app.api.http.refusal_log import MAX_LINES_PER_CLIENT
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.process_usage import PeakMemory
from tests.real.service import Service
from tests.real.uploads import UploadConnection, assert_next_upload_works, fresh_bytes, uploaded
from tests.real.waiting import eventually

MEBIBYTE = 1024 * 1024
MOST_OF_A_CONNECTION = 512 * 1024
"""Memory of the process that one connection may hold: one read (250 KiB), one response chunk (256 KiB), and their objects."""
NOISE = 8 * MEBIBYTE
STRANGERS = 20
LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
FEW = {"MEDIAVAULT_CONNECTIONS": "20", "MEDIAVAULT_DOWNLOAD_IDLE_SECONDS": "1"}
PER_ADDRESS = "Too many connections from 127.0.0.9, at most 3 (MEDIAVAULT_CONNECTIONS_PER_ADDRESS); "
PROXIED = {"MEDIAVAULT_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8", "MEDIAVAULT_CONNECTIONS_PER_ADDRESS": "4"}


def get(path: str, account: Account | None = None, fields: str = "") -> bytes:
    key = f"x-api-key: {account.key}\r\n" if account else ""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{key}{fields}\r\n".encode()


def stall(
    service: Service,
    account: Account,
    path: str,
    *,
    source: str = "127.0.0.1",
    fields: str = "",
    receive_buffer: int = 4096,
) -> UploadConnection:
    """Request a large file, and read only the head of the response."""
    wire = UploadConnection(service.port, receive_buffer=receive_buffer, source=source)
    wire.send(get(path, account, fields))
    assert wire.head()[0] == 200
    return wire


class Flood:
    """A thread with many connections that repeat the same requests, and read the responses only if `reads` is set."""

    def __init__(self, port: int, count: int, requests: bytes, *, first: bytes = b"", reads: bool = False) -> None:
        self._selector = selectors.DefaultSelector()
        self._requests = requests * (128 * 1024 // len(requests))
        self._reads = reads
        self._sockets = [self._connect(port, number, first) for number in range(count)]
        self.sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()
        self._selector.close()

    def _connect(self, port: int, number: int, first: bytes) -> socket.socket:
        connection = socket.socket()
        connection.bind((f"127.0.1.{number % 200 + 1}", 0))
        connection.settimeout(30)
        connection.connect(("127.0.0.1", port))
        connection.sendall(first)
        connection.setblocking(False)
        events = selectors.EVENT_WRITE | (selectors.EVENT_READ if self._reads else 0)
        # Where each goes on in the requests.
        self._selector.register(connection, events, [0])
        return connection

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for key, events in self._selector.select(0.05):
                connection, position = key.fileobj, key.data
                assert isinstance(connection, socket.socket)
                with suppress(BlockingIOError):
                    if events & selectors.EVENT_READ and not connection.recv(MEBIBYTE):
                        self._selector.unregister(connection)
                        continue
                    if events & selectors.EVENT_WRITE:
                        count = connection.send(self._requests[position[0] :])
                        position[0] = (position[0] + count) % len(self._requests)
                        self.sent += count


@pytest.fixture
def film(service: Service, account: Account) -> str:
    """The path of a file larger than the kernel's buffers for a client that does not read."""
    with service.client(account) as client:
        return f"/api/assets/{uploaded(client, fresh_bytes(16 * MEBIBYTE))}/original"


def test_a_pipeline_takes_bounded_memory(service: Service, account: Account, film: str) -> None:
    """Requests behind an answer that is not read, answers of both sizes that are not read, and answers that are."""
    large, ranged = get(film, account), get(film, account, "Range: bytes=0-65535\r\n")
    with PeakMemory(service.process) as memory, ExitStack() as floods:
        for requests, first, reads in (
            (LIVE, large, False),
            (ranged, b"", False),
            (LIVE, b"", False),
            (LIVE, b"", True),
        ):
            flood = floods.enter_context(Flood(service.port, STRANGERS, requests, first=first, reads=reads))
            flood.run(0.6)
            assert flood.sent > STRANGERS * len(requests)

    assert memory.growth < 4 * STRANGERS * MOST_OF_A_CONNECTION + NOISE, f"{memory.growth / MEBIBYTE:.0f} MiB"


@pytest.mark.usefixtures("exclusive_network")
def test_stalled_and_flooding_strangers_leave_the_others_alone(start_service: StartService, *, soak: bool) -> None:
    """Others are answered within the time-out of their client, all the time."""
    strangers, seconds = (1000, 60.0) if soak else (100, 2.0)
    service = start_service("local", settings={"MEDIAVAULT_CONNECTIONS": str(3 * strangers)}, spawned=False)
    account = service.people.add()
    with service.client(account) as client:
        path = f"/api/assets/{uploaded(client, fresh_bytes(16 * MEBIBYTE))}/original"
        with PeakMemory(service.process) as memory, ExitStack() as stalled:
            for number in range(strangers):
                stalled.enter_context(stall(service, account, path, source=f"127.0.2.{number % 200 + 1}"))
            with Flood(service.port, strangers, LIVE) as flood:
                began, rounds = time.monotonic(), 0
                while time.monotonic() - began < seconds:
                    flood.run(0.25)
                    assert client.get("/readyz").status_code == 200
                    assert client.get(path, headers={"range": "bytes=5-99"}).status_code == 206
                    assert_next_upload_works(client)
                    rounds += 1

    assert rounds
    assert memory.growth < 2 * strangers * MOST_OF_A_CONNECTION + NOISE, f"{memory.growth / MEBIBYTE:.0f} MiB"


def test_a_reader_that_stalls_gives_its_place_back(start_service: StartService) -> None:
    service = start_service("local", settings=FEW)
    account = service.people.add()
    with service.client(account) as client:
        path = f"/api/assets/{uploaded(client, fresh_bytes(16 * MEBIBYTE))}/original"
    with ExitStack() as stalled:
        eventually(lambda: _count_free_connections(service) == 20, "the first client has left")
        wires = [stalled.enter_context(stall(service, account, path)) for _ in range(20)]
        assert _statuses(service, "/api/server/ping") == [503]
        assert _statuses(service, "/livez") == _statuses(service, "/readyz") == [200]
        other = "127.0.0.9"  # the log has its own lines for it
        eventually(
            lambda: _statuses(service, "/api/server/ping", source=other) == [200], "the stalled ones are cut off"
        )
        with suppress(ConnectionError):
            while wires[0].receive(MEBIBYTE):
                pass
        eventually(lambda: _count_free_connections(service) == 20, "all are cut off")

    assert "The client took nothing for 1 seconds" in service.log
    assert service.log.count("answer cut short") <= MAX_LINES_PER_CLIENT
    assert "Traceback" not in service.log


def test_a_slow_reader_is_no_stalled_one(start_service: StartService) -> None:
    service = start_service("local", settings=FEW)
    account = service.people.add()
    data = fresh_bytes(12 * MEBIBYTE)
    with service.client(account) as client:
        path = f"/api/assets/{uploaded(client, data)}/original"
    received = bytearray()
    with stall(service, account, path, receive_buffer=64 * 1024) as wire:
        paused = 0
        while piece := wire.receive(64 * 1024):
            received += piece
            if len(received) // MEBIBYTE > paused:
                paused += 1
                time.sleep(0.2)  # slowness is the case itself

    assert received == data


def test_one_address_does_not_take_all_places(start_service: StartService) -> None:
    service = start_service("local", settings={"MEDIAVAULT_CONNECTIONS_PER_ADDRESS": "3"})
    with ExitStack() as open_ones:
        wires = [open_ones.enter_context(UploadConnection(service.port, source="127.0.0.9")) for _ in range(3)]
        for wire in wires:
            wire.send(LIVE)
            assert wire.answer().status == 200
        assert _statuses(service, "/api/server/ping", source="127.0.0.9") == [503]
        assert _statuses(service, "/livez", source="127.0.0.9") == [200]
        assert _statuses(service, "/api/server/ping", source="127.0.0.10") == [200]
        wires.pop().__exit__(None, None, None)
        eventually(lambda: _statuses(service, "/api/server/ping", source="127.0.0.9") == [200], "a place is free")


def test_a_trusted_proxy_is_not_its_clients(start_service: StartService) -> None:
    """Downloads that stall behind it count for the client that it names; the part of the field that clients can write does not."""
    service = start_service("local", settings=PROXIED)
    account = service.people.add()
    with service.client(account) as client:
        path = f"/api/assets/{uploaded(client, fresh_bytes(16 * MEBIBYTE))}/original"
    with ExitStack() as stalled:
        for number in range(8):
            fields = f"X-Forwarded-For: 203.0.113.{number}\r\n"
            stalled.enter_context(stall(service, account, path, fields=fields))
        for _ in range(4):
            stalled.enter_context(
                stall(service, account, path, fields="X-Forwarded-For: 9.9.9.9, 198.51.100.7, 10.1.2.3\r\n")
            )
        assert _statuses(service, "/api/server/ping", fields="X-Forwarded-For: 8.8.8.8, 198.51.100.7\r\n") == [503]
        for path in ("/livez", "/readyz"):
            assert _statuses(service, path, fields="X-Forwarded-For: 8.8.8.8, 198.51.100.7\r\n") == [200]
        assert _statuses(service, "/api/server/ping", fields="X-Forwarded-For: 198.51.100.8\r\n") == [200]


def test_guesses_are_counted_for_the_client_of_a_trusted_proxy(start_service: StartService) -> None:
    service = start_service("local", settings=PROXIED)
    guess = {"email": "nobody@example.org", "password": "wrong"}

    def guesses(client: str) -> int:
        with service.client() as http:
            return http.post("/api/auth/login", json=guess, headers={"x-forwarded-for": client}).status_code

    statuses = [guesses(f"192.0.2.{number}, 203.0.113.7") for number in range(11)]

    assert statuses == [401] * 10 + [429]
    assert guesses("203.0.113.8") == 401


def test_a_stranger_can_not_name_itself(start_service: StartService) -> None:
    service = start_service("local", settings={"MEDIAVAULT_CONNECTIONS_PER_ADDRESS": "3"})
    with ExitStack() as open_ones:
        for number in range(3):
            wire = open_ones.enter_context(UploadConnection(service.port, source="127.0.0.9"))
            wire.send(get("/livez", fields=f"X-Forwarded-For: 203.0.113.{number}\r\n"))
            assert wire.answer().status == 200
        wire = open_ones.enter_context(UploadConnection(service.port, source="127.0.0.9"))
        wire.send(get("/api/server/ping", fields="X-Forwarded-For: 203.0.113.77\r\n"))
        refused = wire.answer()

    why = f"{PER_ADDRESS}it looks like a proxy: set MEDIAVAULT_TRUSTED_PROXIES"
    assert (refused.status, refused.json()["detail"]) == (503, why)
    assert why in service.log


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("MEDIAVAULT_CONNECTIONS", "Too many connections, try later: 3 are open (MEDIAVAULT_CONNECTIONS)"),
        (
            "MEDIAVAULT_CONNECTIONS_PER_ADDRESS",
            f"{PER_ADDRESS}if it is a proxy, set MEDIAVAULT_TRUSTED_PROXIES",
        ),
    ],
)
def test_connections_beyond_a_bound_leave_health_to_be_asked_for(
    start_service: StartService, setting: str, said: str
) -> None:
    """Whether they are silent or have been refused and stay."""
    service = start_service("local", settings={setting: "3"})
    with ExitStack() as open_ones:
        wires = [open_ones.enter_context(UploadConnection(service.port, source="127.0.0.9")) for _ in range(3)]
        for wire in wires:
            wire.send(LIVE)
            assert wire.answer().status == 200
            wire.send(LIVE[:-2])  # an idle connection would be closed for others
        for _ in range(2 * 3):
            open_ones.enter_context(UploadConnection(service.port, source="127.0.0.9"))
        for path in ("/livez", "/readyz"):
            assert _statuses(service, path, source="127.0.0.9") == [200]
        for _ in range(2 * 3):
            wire = open_ones.enter_context(UploadConnection(service.port, source="127.0.0.9"))
            wire.send(get("/api/server/ping"))
            refused = wire.answer()
            assert (refused.status, refused.json()["detail"]) == (503, said)
        for path in ("/livez", "/readyz"):
            for source in ("127.0.0.9", "127.0.0.10", "127.0.0.1"):
                assert _statuses(service, path, source=source) == [200]


@pytest.mark.usefixtures("exclusive_network")
def test_idle_and_trickling_connections_leave_the_service_to_others(start_service: StartService, *, soak: bool) -> None:
    """Twice as many idle connections as there may be, from this host, and slow readers, which get all of their bytes. Nobody waits until an
    idle connection times out."""
    limit, idle, trickling = (1000, 2000, 200) if soak else (100, 200, 20)
    service = start_service("local", settings={"MEDIAVAULT_CONNECTIONS": str(limit)})
    account = service.people.add()
    data = fresh_bytes(8 * MEBIBYTE)
    with service.client(account) as client, ExitStack() as open_ones:
        path = f"/api/assets/{uploaded(client, data)}/original"
        slow = [open_ones.enter_context(stall(service, account, path)) for _ in range(trickling // 2)]
        for number in range(trickling // 2):
            open_ones.enter_context(UploadConnection(service.port)).send(LIVE[: 1 + number % 20])
        for _ in range(idle):
            open_ones.enter_context(UploadConnection(service.port))
        assert _statuses(service, "/livez") == [200]
        others = [open_ones.enter_context(_download_when_admitted(service, account, path)) for _ in range(5)]
        assert_next_upload_works(client)
        assert client.get(path).content == data
        for wire in (slow[0], *others):
            received = bytearray()
            while len(received) < len(data):
                received += wire.receive(MEBIBYTE)
            assert received == data


def test_programs_of_this_host_are_not_bounded_by_address(start_service: StartService) -> None:
    service = start_service("local", settings={"MEDIAVAULT_CONNECTIONS_PER_ADDRESS": "3"})
    with ExitStack() as open_ones:
        for _ in range(2 * 3):
            wire = open_ones.enter_context(UploadConnection(service.port))
            wire.send(get("/api/server/ping"))
            assert wire.answer().status == 200


def _statuses(service: Service, path: str, *, source: str = "127.0.0.1", fields: str = "") -> list[int]:
    with UploadConnection(service.port, source=source) as wire:
        wire.send(get(path, fields=f"Connection: close\r\n{fields}"))
        return [wire.answer().status]


def _download_when_admitted(service: Service, account: Account, path: str) -> UploadConnection:
    """A download that has begun. It waits for much less time than silent connections may last."""
    deadline = time.monotonic() + HEAD_TIMEOUT_SECONDS / 2
    while True:
        wire = UploadConnection(service.port)
        wire.send(get(path, account))
        status, _ = wire.head()
        if status == 200:
            return wire
        wire.vanish()
        assert (status, time.monotonic() < deadline) == (503, True)


def _count_free_connections(service: Service) -> int:
    """The number of free connections, as far as the test can know: all of them when nobody is connected."""
    connected = [each for each in service.process.net_connections("tcp") if each.status == "ESTABLISHED"]
    return 20 - len(connected)
