"""Fixtures that open backends on the session's S3 server, with a prefix for each test."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from app.config import Settings
from app.storage.key import Key
from app.storage.ranges import ByteRange
from app.storage.s3 import S3Backend, open_s3
from app.storage.s3.protocol.capabilities import S3Feature
from tests.real.proxy import Proxy
from tests.real.seaweedfs import Identity, SeaweedFS

OpenBackend = Callable[..., Awaitable[S3Backend]]


def s3_settings(endpoint: str | None, identity: Identity | None, bucket: str, prefix: str, **more: Any) -> Settings:
    """Settings for a store; `more` are environment variables."""
    values: dict[str, Any] = {"S3_BUCKET": bucket, "S3_PREFIX": prefix}
    if endpoint is not None:
        values["S3_ENDPOINT"] = endpoint
    if identity is not None:
        values |= {"S3_ACCESS_KEY_ID": identity.access_key, "S3_SECRET_ACCESS_KEY": identity.secret_key}
    return Settings(_env_file=None, **values | more)  # pyright: ignore[reportCallIssue]


@pytest.fixture(scope="session")
def bucket(seaweedfs: SeaweedFS) -> str:
    return seaweedfs.create_bucket()


@pytest.fixture
def prefix() -> str:
    return f"tests/{random.getrandbits(48):012x}"


@pytest.fixture
def proxy(seaweedfs: SeaweedFS) -> Iterator[Proxy]:
    with Proxy(seaweedfs.port) as running:
        yield running


@pytest.fixture
async def open_backend(seaweedfs: SeaweedFS, bucket: str, prefix: str) -> AsyncIterator[OpenBackend]:
    """Opens backends on the test's prefix and closes them at its end. Without `trial` the features of the store count as confirmed, so
    that the backend sends no requests to probe them."""
    opened: list[S3Backend] = []

    async def open_one(
        *, endpoint: str | None = None, identity: Identity | None = None, trial: bool = False, **more: Any
    ) -> S3Backend:
        settings = s3_settings(
            endpoint or seaweedfs.endpoint, identity or seaweedfs.admin, more.pop("bucket", bucket), prefix, **more
        )
        opened.append(await open_s3(settings))
        if not trial:
            for feature in (S3Feature.CONDITIONAL_PUT, S3Feature.CONDITIONAL_COMPLETE, S3Feature.KEY_ENCODING):
                opened[-1].client.capabilities.mark_confirmed(feature)
        return opened[-1]

    yield open_one
    for backend in opened:
        await asyncio.wait_for(backend.aclose(), 30)


async def write(backend: S3Backend, key: str, data: bytes, **more: Any) -> None:
    async with backend.write_stream(Key(key), **more) as writer:
        for first in range(0, len(data), 1 << 20):
            await writer.write(data[first : first + (1 << 20)])


async def read(backend: S3Backend, key: str, byte_range: ByteRange | None = None, if_match: str | None = None) -> bytes:
    async with backend.read_stream(Key(key), byte_range, if_match) as stream:
        return b"".join([chunk async for chunk in stream.chunks])


async def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits until the condition holds; fails after a time-out."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)
