"""Responses from memory (without an ASGI call) equal those of the ASGI path, keep their order, and stop when access is revoked."""

from __future__ import annotations

import asyncio

import pytest

from tests.real.accounts import Account
from tests.real.http_raw import RawConnection, RawResponse
from tests.real.service import Service
from tests.real.uploads import fresh_bytes, uploaded

SIZE = 3 * 1024 * 1024
OF_THE_MOMENT = ("date", "x-correlation-id", "connection")
IDLE_SECONDS = 5
"""uvicorn closes an idle connection after this time."""


@pytest.fixture
def film(service: Service) -> tuple[Account, str, bytes]:
    """Its owner, its path and its bytes."""
    owner, data = service.people.add(), fresh_bytes(SIZE)
    with service.client(owner) as client:
        return owner, f"/api/assets/{uploaded(client, data, 'film.mp4')}/original", data


@pytest.mark.parametrize(
    "asked", [[("Range", "bytes=100-65635")], [("Range", "bytes=-7")], [("Range", "bytes=10-5")], []], ids=str
)
async def test_they_are_the_same_as_the_others(
    service: Service, film: tuple[Account, str, bytes], asked: list[tuple[str, str]]
) -> None:
    owner, path, _ = film
    fields = [("x-api-key", owner.key), *asked]
    async with await RawConnection.open("127.0.0.1", service.port) as connection:
        await connection.request("GET", path, fields)
        at_once = await connection.request("GET", path, fields)
        ordinary = await connection.request("GET", path, [*fields, ("Connection", "close")])

    assert at_once.status == ordinary.status
    assert at_once.body == ordinary.body
    assert sorted(_lasting(at_once)) == sorted(_lasting(ordinary))
    assert at_once.header("date")
    assert at_once.header("x-correlation-id") != ordinary.header("x-correlation-id")


async def test_requests_sent_together_are_answered_in_order(service: Service, film: tuple[Account, str, bytes]) -> None:
    owner, path, data = film
    starts = [number * 1000 for number in range(50)]
    async with await RawConnection.open("127.0.0.1", service.port) as connection:
        await connection.request("GET", path, [("x-api-key", owner.key), ("Range", "bytes=0-0")])
        await connection.send(b"".join(_request(owner, path, f"bytes={start}-{start + 64_000}") for start in starts))
        answers = [await connection.read_response() for _ in starts]

    assert [answer.body for answer in answers] == [data[start : start + 64_001] for start in starts]


async def test_a_long_answer_after_one_at_once_is_not_taken_for_idleness(
    service: Service, film: tuple[Account, str, bytes]
) -> None:
    owner, path, data = film
    async with await RawConnection.open("127.0.0.1", service.port, receive_buffer=16 * 1024) as connection:
        await connection.request("GET", path, [("x-api-key", owner.key), ("Range", "bytes=0-0")])
        await connection.send(_request(owner, path, "bytes=0-9") + _request(owner, path, "bytes=0-"))
        assert (await connection.read_response()).body == data[:10]
        # The wait is the case itself: nobody reads for longer than an idle connection lives.
        await asyncio.sleep(IDLE_SECONDS + 1)
        answer = await connection.read_response()

    assert answer.complete
    assert answer.body == data


async def test_a_deleted_film_is_not_sent_again(service: Service, film: tuple[Account, str, bytes]) -> None:
    owner, path, _ = film
    fields = [("x-api-key", owner.key), ("Range", "bytes=0-99")]
    async with await RawConnection.open("127.0.0.1", service.port) as connection:
        assert [(await connection.request("GET", path, fields)).status for _ in range(3)] == [206] * 3
        with service.client(owner) as client:
            client.request(
                "DELETE", "/api/assets", json={"ids": [path.split("/")[3]], "force": True}
            ).raise_for_status()
        after = await connection.request("GET", path, fields)
        stranger = await connection.request("GET", path, [("x-api-key", service.people.add().key), fields[1]])

    assert after.status == stranger.status == 404


def _request(owner: Account, path: str, wanted: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: here\r\nx-api-key: {owner.key}\r\nRange: {wanted}\r\n\r\n".encode()


def _lasting(answer: RawResponse) -> list[tuple[str, str]]:
    return [field for field in answer.headers if field[0] not in OF_THE_MOMENT]
