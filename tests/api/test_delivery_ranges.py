"""The table of range requests against the whole service: a real socket, authentication, catalogue, and both storage engines."""

from __future__ import annotations

import random

import pytest

from tests.delivery.range_cases import RANGE_CASES, TEN_BYTES, RangeCase, check_range_answer
from tests.real.accounts import Account
from tests.real.http_raw import RawConnection, RawResponse
from tests.real.service import Service
from tests.real.uploads import fresh_bytes, uploaded

MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def owner(service: Service) -> Account:
    return service.people.add()


@pytest.fixture(scope="module")
def ten_bytes(service: Service, owner: Account) -> str:
    """The path of an original of ten bytes."""
    with service.client(owner) as client:
        return f"/api/assets/{uploaded(client, TEN_BYTES)}/original"


@pytest.fixture(scope="module")
def large(service: Service, owner: Account) -> tuple[str, bytes]:
    """The path of an original that spans many chunks, and its bytes."""
    data = fresh_bytes(20 * MEBIBYTE + 12_345)
    with service.client(owner) as client:
        return f"/api/assets/{uploaded(client, data, 'film.mp4')}/original", data


@pytest.mark.parametrize("case", RANGE_CASES, ids=str)
async def test_table_on_ten_bytes(service: Service, owner: Account, ten_bytes: str, case: RangeCase) -> None:
    answer = await _get(service, owner, ten_bytes, case.request_headers)

    check_range_answer(case, answer, TEN_BYTES, "image/jpeg")


@pytest.mark.parametrize("case", RANGE_CASES[:40], ids=str)
async def test_a_head_ignores_ranges(service: Service, owner: Account, ten_bytes: str, case: RangeCase) -> None:
    answer = await _get(service, owner, ten_bytes, case.request_headers, method="HEAD")

    assert answer.status == 200
    assert answer.header("content-length") == "10"
    assert answer.header("content-range") is None
    assert answer.body == b""


async def test_a_large_file_by_ranges(service: Service, owner: Account, large: tuple[str, bytes]) -> None:
    path, data = large
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    async with await RawConnection.open("127.0.0.1", service.port) as connection:
        for _ in range(40):
            first = dice.randrange(len(data))
            last = min(len(data) - 1, first + dice.choice([0, 1, 65_535, 262_144, 3 * MEBIBYTE]))
            answer = await connection.request(
                "GET", path, [("x-api-key", owner.key), ("Range", f"bytes={first}-{last}")]
            )

            assert answer.status == 206
            assert answer.header("content-range") == f"bytes {first}-{last}/{len(data)}"
            assert answer.body == data[first : last + 1]


async def test_a_large_file_whole(service: Service, owner: Account, large: tuple[str, bytes]) -> None:
    path, data = large

    answer = await _get(service, owner, path, [])

    assert answer.status == 200
    assert answer.header("content-length") == str(len(data))
    assert answer.header("content-type") == "video/mp4"
    assert answer.body == data


async def _get(
    service: Service, owner: Account, path: str, headers: list[tuple[str, str]], *, method: str = "GET"
) -> RawResponse:
    async with await RawConnection.open("127.0.0.1", service.port) as connection:
        return await connection.request(method, path, [("x-api-key", owner.key), *headers])
