"""Replaced keys and wrong clocks while the service runs: one refused request, which is repeated without an error for the caller."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from email.utils import formatdate
from pathlib import Path

import botocore.auth
import pytest

from app.storage.errors import StoragePermission
from app.storage.key import Key
from app.storage.s3 import S3Backend
from app.storage.s3.protocol import signing
from tests.real.proxy import Fault, Proxy, Recorded
from tests.real.seaweedfs import Identity, SeaweedFS
from tests.storage.s3.conftest import OpenBackend, read, write

MIB = 1024 * 1024
DATA = random.Random(12).randbytes(9 * MIB)
SMALL = b"a photo"


class Profile:
    """The profile file that the environment names."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, identity: Identity) -> None:
        text = f"[default]\naws_access_key_id = {identity.access_key}\naws_secret_access_key = {identity.secret_key}\n"
        self._path.write_text(text)


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Profile(tmp_path / "credentials")


@pytest.fixture
def identity(seaweedfs: SeaweedFS, bucket: str, prefix: str) -> Identity:
    return seaweedfs.add_prefix_identity(f"keys-{random.getrandbits(32):08x}", bucket, prefix)


@pytest.fixture
def other(seaweedfs: SeaweedFS, bucket: str, prefix: str) -> Identity:
    return seaweedfs.add_prefix_identity(f"keys-{random.getrandbits(32):08x}", bucket, prefix)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "RELOAD_PAUSE_SECONDS", 0.0)


async def reads(backend: S3Backend) -> None:
    assert await read(backend, "kept") == DATA


async def lists(backend: S3Backend) -> None:
    assert "kept" in [found.key async for found in backend.list_objects()]


async def copies(backend: S3Backend) -> None:
    await backend.copy_object(Key("small"), Key("copy"))
    assert await read(backend, "copy") == SMALL


async def heads(backend: S3Backend) -> None:
    assert (await backend.head(Key("kept"))).size == len(DATA)


async def finds_nothing(backend: S3Backend) -> None:
    assert not await backend.exists(Key("nothing"))


OPERATIONS: dict[str, Callable[[S3Backend], Awaitable[object]]] = {
    "read": reads,
    "head": heads,
    "head of nothing": finds_nothing,
    "put": lambda backend: backend.put_object(Key("marker"), SMALL),
    "write": lambda backend: write(backend, "new", SMALL),
    "write by parts": lambda backend: write(backend, "parts", DATA),
    "list": lists,
    "copy": copies,
    "delete": lambda backend: backend.delete_object(Key("copy")),
    "delete many": lambda backend: backend.delete_objects([Key("new"), Key("parts")]),
    "probe": lambda backend: backend.probe(),
}


@pytest.mark.usefixtures("at_once")
async def test_keys_that_were_replaced_are_read_anew(
    open_backend: OpenBackend, seaweedfs: SeaweedFS, profile: Profile, identity: Identity
) -> None:
    """Each kind of call is the first after the change once, including a read whose link was signed before."""
    profile.write(identity)
    backend = await open_backend(S3_ACCESS_KEY_ID=None, S3_SECRET_ACCESS_KEY=None)
    await write(backend, "kept", DATA)
    await write(backend, "small", SMALL)
    await reads(backend)
    for name, operation in OPERATIONS.items():
        identity = await asyncio.to_thread(seaweedfs.replace_keys, identity)
        profile.write(identity)
        try:
            await operation(backend)
        except Exception as error:
            raise AssertionError(f"{name}: {error}") from error
    assert backend.client.signing.generation == len(OPERATIONS)


@pytest.mark.usefixtures("at_once")
async def test_secrets_in_files_are_read_anew(
    open_backend: OpenBackend, seaweedfs: SeaweedFS, identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_files(identity: Identity) -> None:
        for name, value in (("S3_ACCESS_KEY_ID", identity.access_key), ("S3_SECRET_ACCESS_KEY", identity.secret_key)):
            (tmp_path / name).write_text(f"{value}\n")
            monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))

    write_files(identity)
    backend = await open_backend(identity=identity)
    await write(backend, "small", SMALL)
    assert await read(backend, "small") == SMALL
    renewed = await asyncio.to_thread(seaweedfs.replace_keys, identity)
    write_files(renewed)
    assert await read(backend, "small") == SMALL


async def test_keys_that_stay_refused_are_looked_for_seldom(
    open_backend: OpenBackend, seaweedfs: SeaweedFS, profile: Profile, identity: Identity, proxy: Proxy
) -> None:
    """Many failing calls cause few loads; new keys are then found."""
    profile.write(identity)
    backend = await open_backend(endpoint=proxy.endpoint, S3_ACCESS_KEY_ID=None, S3_SECRET_ACCESS_KEY=None)
    await write(backend, "small", SMALL)
    loads = 0
    load = backend.client.signing._load

    async def counted() -> object:
        nonlocal loads
        loads += 1
        return await load()

    backend.client.signing._load = counted  # type: ignore[assignment]
    renewed = await asyncio.to_thread(seaweedfs.replace_keys, identity)
    proxy.requests.clear()
    calls = [operation(backend) for _ in range(20) for operation in (heads, lists, lambda b: read(b, "small"))]
    failures = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(failure) for failure in failures} == {StoragePermission}
    assert loads == 1
    assert len(proxy.requests) <= 4 * len(calls), "no call is repeated over and over"
    profile.write(renewed)
    backend.client.signing._loaded_at = float("-inf")  # after the pause
    assert await read(backend, "small") == SMALL


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ExpiredToken"),
        (403, "ExpiredToken"),
        (400, "InvalidToken"),
        (400, "RequestExpired"),
        (401, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (403, "InvalidAccessKeyId"),
        (400, "TokenRefreshRequired"),
    ],
)
async def test_whatever_the_store_calls_it(
    open_backend: OpenBackend,
    profile: Profile,
    identity: Identity,
    other: Identity,
    proxy: Proxy,
    status: int,
    code: str,
) -> None:
    """Signed links of reads, calls, and HEADs, whose errors have no code."""
    profile.write(identity)
    backend = await open_backend(endpoint=proxy.endpoint, S3_ACCESS_KEY_ID=None, S3_SECRET_ACCESS_KEY=None)
    await write(backend, "small", SMALL)
    assert await read(backend, "small") == SMALL

    def signed_with(access_key: str) -> Callable[[Recorded], bool]:
        return lambda request: access_key in request.target or access_key in request.headers.get("authorization", "")

    current = identity
    for renewed, operation in ((other, "read"), (identity, "head of nothing"), (other, "list"), (identity, "write")):
        profile.write(renewed)
        proxy.faults[:] = [Fault(signed_with(current.access_key), status=status, code=code)]
        if operation == "read":
            assert await read(backend, "small") == SMALL
        elif operation == "list":
            assert [found.key async for found in backend.list_objects()] == ["small"]
        else:
            await OPERATIONS[operation](backend)
        current = renewed


@pytest.mark.parametrize("hours", [-3, 3])
@pytest.mark.parametrize("name", ["read", "head", "write by parts"])
async def test_a_clock_that_is_wrong_is_made_up_for(
    open_backend: OpenBackend, monkeypatch: pytest.MonkeyPatch, proxy: Proxy, hours: int, name: str
) -> None:
    """Also for a clock that is set right again. The host's clock cannot be changed, so the function that reads it is replaced."""
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "kept", DATA)
    now, sdk_now = signing._now, botocore.auth.get_current_datetime

    def move(by: timedelta) -> None:
        def moved() -> datetime:
            return now() + by

        monkeypatch.setattr(signing, "_now", moved)
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: sdk_now() + by)

    for by in (timedelta(hours=hours), timedelta(0)):
        move(by)
        backend.reader.forget_link("kept")
        proxy.requests.clear()
        await OPERATIONS[name](backend)
        proxy.requests.clear()
        backend.reader.forget_link("kept")
        await reads(backend)
        assert len(proxy.requests) == 1, "known from then on"
        await backend.delete_object(Key("parts"))


async def test_a_refusal_with_a_date_that_means_nothing_does_no_lasting_harm(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    """The response comes from a proxy in between, not from the store."""
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "small", SMALL)
    wrong = formatdate(time.time() + 3 * 3600, usegmt=True)
    proxy.faults.append(Fault(times=1, status=403, code="AccessDenied", date=wrong))
    with pytest.raises(StoragePermission):
        _ = [found async for found in backend.list_objects()]
    assert [found.key async for found in backend.list_objects()] == ["small"]
    assert await read(backend, "small") == SMALL


@pytest.mark.parametrize(
    "date", ["Sun, 29 Nov 2026 10:00:00", "Sun, 29 Nov 2026 10:00:00 -0000", "soon", "1 Jan 99999999999 0:0"]
)
async def test_a_refusal_with_a_date_without_a_zone_is_a_refusal(
    open_backend: OpenBackend, proxy: Proxy, date: str
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.append(Fault(status=403, code="AccessDenied", date=date))
    with pytest.raises(StoragePermission):
        await backend.head(Key("small"))
