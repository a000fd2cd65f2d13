"""A front server that sends files (`MEDIAVAULT_OFFLOAD`): a client gets the same answers as from the service itself, through a real nginx and
a real Caddy."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.consistency import assert_consistent
from tests.api.start_service import StartService
from tests.delivery.range_cases import RANGE_CASES, TEN_BYTES
from tests.real.accounts import Account
from tests.real.front_server import (
    SECRET,
    SETTINGS,
    create_offloading_caddy,
    create_offloading_lighttpd,
    create_offloading_nginx,
)
from tests.real.http_raw import RawConnection, RawResponse
from tests.real.service import Service
from tests.real.stacks import Engine, Stacks
from tests.real.uploads import fresh_bytes, uploaded

Fields = list[tuple[str, str]]

LONGEST_LINE = 8 * 1024
"""nginx refuses a request with a longer field, unless it is told otherwise."""
MOST_SHOWN = 1000
RANDOM_REQUESTS, LONG_RANDOM_REQUESTS = 60, 20_000
OF_THE_SERVER = {"server", "date", "connection", "via"}
NAMES = (
    "photo.jpg",
    "ümläut – 写真.jpg",
    'a "quoted" name; x=%41.jpg',
    "question? #hash & 100%.jpg",
    "film.mp4",
    "drawing.svg",
    "clip.mov",
)
QUERIES = ("", "?download=true", "?c=1")
ETAG, DATE = "{etag}", "{date}"
CONDITIONS: tuple[Fields, ...] = (
    [("If-None-Match", ETAG)],
    [("If-None-Match", '"other"')],
    [("If-None-Match", f"W/{ETAG}")],
    [("If-None-Match", "*")],
    [("If-None-Match", '"other"'), ("Range", "bytes=0-4")],
    [("If-Match", ETAG)],
    [("If-Match", ETAG), ("Range", "bytes=0-4")],
    [("If-Match", '"other"')],
    [("If-Match", "*")],
    [("If-Modified-Since", DATE)],
    [("If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT")],
    [("If-Modified-Since", "Sat, 01 Jan 2000 00:00:00 GMT"), ("If-None-Match", ETAG)],
    [("If-Unmodified-Since", DATE)],
    [("If-Unmodified-Since", "Sat, 01 Jan 2000 00:00:00 GMT")],
    [("If-Range", ETAG)],
    [("If-Range", ETAG), ("Range", "bytes=0-4")],
    [("If-Range", f"W/{ETAG}"), ("Range", "bytes=0-4")],
    [("If-Range", '"other"'), ("Range", "bytes=0-4")],
    [("If-Range", DATE), ("Range", "bytes=0-4")],
    [("If-Range", "Sat, 01 Jan 2000 00:00:00 GMT"), ("Range", "bytes=0-4")],
    [("If-Range", "nonsense"), ("Range", "bytes=0-4")],
    [("If-Range", ETAG), ("Range", "bytes=10-")],
    [("If-Range", ETAG), ("Range", "bytes=0-0,-2")],
    [("Origin", "https://gallery.example.org")],
    [("Origin", "https://gallery.example.org"), ("Range", "bytes=0-4")],
    [("Accept-Encoding", "gzip, br")],
)


@dataclass(frozen=True, slots=True)
class Offloading:
    """A service and the port of the front server before it."""

    service: Service
    port: int


@pytest.fixture(scope="module")
def offloading_service(stack: Engine, stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = SETTINGS | {"MEDIAVAULT_CORS_ORIGINS": "https://gallery.example.org"}
    with Service(stacks.create(stack, tmp_path_factory.mktemp("offloading")), settings=settings) as service:
        yield service
        assert_consistent(service.stack)


@pytest.fixture(scope="module", params=[create_offloading_nginx, create_offloading_caddy], ids=["nginx", "caddy"])
def offloading(
    request: pytest.FixtureRequest, offloading_service: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Offloading]:
    with request.param(tmp_path_factory.mktemp("front-server"), offloading_service) as front_server:
        yield Offloading(offloading_service, front_server.port)


@pytest.fixture(scope="module")
def owner(offloading: Offloading) -> Account:
    return offloading.service.people.add()


class Comparison:
    """Sends each request to the service and through the front server, and compares the answers."""

    def __init__(
        self, direct: RawConnection, proxied: RawConnection, owner: Account, *, includes_passed_on: bool = True
    ) -> None:
        """Without `includes_passed_on` only those that the front server is left to send."""
        self._direct = direct
        self._proxied = proxied
        self._includes_passed_on = includes_passed_on
        self._common = [("x-api-key", owner.key), ("X-Request-ID", "comparison")]
        self.offloaded = 0

    async def differences(self, path: str, fields: Fields, method: str = "GET") -> dict[str, str]:
        """What differs between the two answers, by the request; empty if nothing does."""
        fields = [*self._common, *fields]
        ours = await self._direct.request(method, path, fields)
        through = await self._proxied.request(method, path, fields)
        told = await self._direct.request(method, path, [*fields, ("X-Offload-Secret", SECRET)])
        if told.header("x-accel-redirect") or told.header("x-sendfile"):
            assert told.body == b""
            self.offloaded += 1
        elif not self._includes_passed_on:
            return {}
        expected, got = _describe(ours), _describe(through)
        if expected == got:
            return {}
        return {f"{method} {path} {fields[2:]}": f"expected {expected - got}, got {got - expected}"[:MOST_SHOWN]}

    async def validators(self, path: str) -> tuple[str, str]:
        answer = await self._direct.request("HEAD", path, self._common)
        etag, date = answer.header("etag"), answer.header("last-modified")
        assert etag
        assert date
        return etag, date


@pytest.fixture
async def comparison(offloading: Offloading, owner: Account) -> AsyncIterator[Comparison]:
    async with (
        await RawConnection.open("127.0.0.1", offloading.service.port) as direct,
        await RawConnection.open("127.0.0.1", offloading.port) as proxied,
    ):
        yield Comparison(direct, proxied, owner)


async def test_all_ranges(offloading: Offloading, owner: Account, comparison: Comparison) -> None:
    assert await _compare_ranges(comparison, _upload(offloading.service, owner, TEN_BYTES)) == {}
    assert 15 < comparison.offloaded < len(RANGE_CASES)


async def _compare_ranges(comparison: Comparison, path: str) -> dict[str, str]:
    different: dict[str, str] = {}
    for case in RANGE_CASES:
        if max(map(len, case.fields), default=0) > LONGEST_LINE:
            continue
        different |= await comparison.differences(path, case.request_headers)
    return different


async def test_random_ranges(
    offloading: Offloading, owner: Account, comparison: Comparison, seed: int, *, soak: bool
) -> None:
    path = _upload(offloading.service, owner, data := fresh_bytes(100_000))
    etag, date = await comparison.validators(path)
    dice = random.Random(seed)
    different: dict[str, str] = {}
    for _ in range(LONG_RANDOM_REQUESTS if soak else RANDOM_REQUESTS):
        fields = [("Range", _make_range(dice, len(data)))]
        if dice.random() < 0.3:
            fields.append(
                ("If-Range", dice.choice([etag, etag, date, '"other"', f"W/{etag}", f"\t{etag}", f"{etag}\t"]))
            )
        different |= await comparison.differences(path, fields)
    assert different == {}
    assert comparison.offloaded > 0


def _make_range(dice: random.Random, size: int) -> str:
    """One or two ranges about the edges of the file; some of them with a character too many, too few or another one."""
    edges = (0, 1, 5, size // 2, size - 1, size, size + 1, 2**31, 2**63, 10**19)
    specs = []
    for _ in range(dice.choice([1, 1, 1, 2])):
        first, last = str(dice.choice(edges)), str(dice.choice(edges))
        specs.append(dice.choice([f"{first}-{last}", f"{first}-", f"-{last}"]))
    text = f"bytes={','.join(specs)}"
    if dice.random() < 0.2:
        place = dice.choice([0, len(text), dice.randrange(len(text))])
        text = text[:place] + dice.choice(["", " ", ",", "-", "0", "b", "\t"]) + text[place + dice.choice([0, 1]) :]
    return text


async def test_all_conditions(offloading: Offloading, owner: Account, comparison: Comparison) -> None:
    assert await _compare_conditions(comparison, _upload(offloading.service, owner, fresh_bytes(10))) == {}
    assert comparison.offloaded == 5


async def _compare_conditions(comparison: Comparison, path: str) -> dict[str, str]:
    etag, date = await comparison.validators(path)
    different: dict[str, str] = {}
    for fields in CONDITIONS:
        filled = [(name, value.format(etag=etag, date=date)) for name, value in fields]
        different |= await comparison.differences(path, filled)
        different |= await comparison.differences(path, filled, "HEAD")
    return different


async def test_all_kinds_of_files(offloading: Offloading, owner: Account, comparison: Comparison) -> None:
    assert await _compare_kinds(comparison, offloading.service, owner) == {}
    assert comparison.offloaded == 2 * len(NAMES) * len(QUERIES)


async def _compare_kinds(comparison: Comparison, service: Service, owner: Account) -> dict[str, str]:
    different: dict[str, str] = {}
    for name in NAMES:
        path = _upload(service, owner, fresh_bytes(700_001), name)
        for query in QUERIES:
            different |= await comparison.differences(path + query, [])
            different |= await comparison.differences(path + query, [("Range", "bytes=300000-600000")])
    return different


async def test_lighttpd_by_paths(start_service: StartService, tmp_path: Path) -> None:
    """Of answers that it passes on lighttpd cuts ranges by rules of its own, if the answer has arrived before it sends the head."""
    service = start_service("local", settings=SETTINGS | {"MEDIAVAULT_OFFLOAD": "x-sendfile"})
    owner = service.people.add()
    with create_offloading_lighttpd(tmp_path, service) as lighttpd:
        async with (
            await RawConnection.open("127.0.0.1", service.port) as direct,
            await RawConnection.open("127.0.0.1", lighttpd.port) as proxied,
        ):
            comparison = Comparison(direct, proxied, owner, includes_passed_on=False)
            path = _upload(service, owner, TEN_BYTES)
            assert await _compare_ranges(comparison, path) == {}
            assert await _compare_conditions(comparison, path) == {}
            assert await _compare_kinds(comparison, service, owner) == {}
    assert comparison.offloaded > 2 * len(NAMES) * len(QUERIES)


async def test_refusals_are_those_of_the_service(
    offloading: Offloading, owner: Account, comparison: Comparison
) -> None:
    path = _upload(offloading.service, offloading.service.people.add(), fresh_bytes(10))
    different: dict[str, str] = {}
    for asked in (path, "/api/assets/00000000-0000-4000-8000-000000000000/original", "/api/assets/x/original"):
        different |= await comparison.differences(asked, [])
    assert different == {}
    assert comparison.offloaded == 0


def _upload(service: Service, owner: Account, data: bytes, name: str = "photo.jpg") -> str:
    with service.client(owner) as client:
        return f"/api/assets/{uploaded(client, data, name)}/original"


def _describe(answer: RawResponse) -> set[tuple[str, object]]:
    boundary = (answer.header("content-type") or "").partition("boundary=")[2] or "no boundary"
    return {
        ("status", answer.status),
        ("complete", answer.complete),
        ("body", answer.body.replace(boundary.encode(), "…".encode())),
        *((name, value.replace(boundary, "…")) for name, value in answer.headers if name not in OF_THE_SERVER),
        # A field that is sent twice.
        *((name, len(answer.all(name))) for name, _ in answer.headers if name not in OF_THE_SERVER),
    }
