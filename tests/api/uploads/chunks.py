"""What tests of both protocols send: chunks of all sizes, and requests whose body comes bit by bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import httpx

from tests.api.uploads.upload_clients import TUS, TUS_TYPE
from tests.real.accounts import Account
from tests.real.uploads import UploadConnection

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
_CHUNKS = [*[1] * 30, *[KIBIBYTE] * 10, 5 * MEBIBYTE - 1, 8 * MEBIBYTE, MEBIBYTE + 1]
_SOAK_CHUNKS = [
    *[1] * 100,
    *[KIBIBYTE] * 500,
    *[5 * MEBIBYTE - 1] * 10,
    *[8 * MEBIBYTE] * 10,
    *[64 * MEBIBYTE] * 2,
    41 * MEBIBYTE,
]
"""Together some 300 MiB."""


def choose_chunk_sizes(*, soak: bool) -> list[int]:
    return _SOAK_CHUNKS if soak else _CHUNKS


def assert_stored(client: httpx.Client, asset_id: str, data: bytes) -> None:
    digest = hashlib.sha1()
    with client.stream("GET", f"/api/assets/{asset_id}/original") as original:
        for piece in original.iter_bytes():
            digest.update(piece)
    assert digest.digest() == hashlib.sha1(data).digest()


def split(data: bytes, sizes: list[int]) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each chunk."""
    offset = 0
    for size in sizes:
        yield offset, data[offset : offset + size]
        offset += size


def begin_append(
    wire: UploadConnection,
    account: Account,
    location: str,
    offset: int,
    length: int,
    fields: Mapping[str, str] | None = None,
) -> None:
    """Send the head of a PATCH whose body is to have `length` bytes, and wait until the server asks for the body. `fields` replace those
    of tus."""
    fields = fields or {**TUS, "content-type": TUS_TYPE, "upload-offset": str(offset)}
    told = {"content-length": str(length), "x-api-key": account.key, "expect": "100-continue"}
    wire.send_head("PATCH", urlsplit(location).path, {**fields, **told})
    assert wire.head()[0] == 100
