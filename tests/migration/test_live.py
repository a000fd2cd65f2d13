"""Moves of a library in both directions by real commands, while a real service serves it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from app.catalog.database.engine import now
from app.config import StorageEngine
from app.jobs.sweeper import sweep
from app.migration.source_retention import SOURCE_RETENTION
from tests.api.consistency import assert_consistent
from tests.migration.commands import mediavault
from tests.migration.concurrent_client import ConcurrentClient, SeenAsset
from tests.migration.conftest import MakeLibrary, MoveDirection
from tests.migration.library import Library
from tests.real.accounts import Account
from tests.real.archives import make_link
from tests.real.catalogues import database
from tests.real.notes import Note
from tests.real.secrets import record_secret
from tests.real.service import Service
from tests.real.stacks import Database, Stacks
from tests.real.sweeping import sweep_everything
from tests.real.uploads import UploadConnection

__all__ = ["database"]

FEW = 36
MANY = 2000
LARGEST = 3_000_000
SOAK_LARGEST = 200 * 1024 * 1024
LONG_BYTES = 24_000_000
"""More bytes than fit into the sockets between the store and a client that does not read."""
SMALL_BUFFER = 64 * 1024
MOVE_SECONDS = 1800.0
"""Time-out of one command; the library of the soak takes minutes on a busy machine."""


def sizes(dice: random.Random, count: int, largest: int) -> list[int]:
    """File sizes: mostly small ones, one byte, and one large file; all others are long enough to have different content."""
    return [1, largest, *(dice.choice((40, 900, 20_000, 150_000)) for _ in range(count - 2))]


@contextmanager
def serving(
    library: Library, engine: StorageEngine, owner: Account | None = None, *, more: Mapping[str, str] | None = None
) -> Iterator[tuple[Service, Account]]:
    """A service with this engine and `more` settings, with the library's owner as its user."""
    settings = {"IMMICH_STORAGE_ENGINE": engine.value, "MEDIAVAULT_FSYNC": "false", **(more or {})}
    service = Service(library.stack, settings=settings)
    with service:
        key = owner.key if owner else service.people.add_key(library.owner)
        yield service, Account(library.owner, "", key)


def migrate(service: Service, command: str, to: StorageEngine) -> dict[str, Any]:
    """Run a command, and assert that it reports no problem."""
    done = service.run("migrate", command, "--to", to.value, "--json", within=MOVE_SECONDS)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


async def test_there_and_back_while_somebody_works(
    database: Database, stacks: Stacks, tmp_path: Path, soak: bool, seed: int, note: Note
) -> None:
    dice = random.Random(seed)
    created = await Library.create(stacks.create("s3", tmp_path, database=database), StorageEngine.S3)
    async with aclosing(created) as library:
        count, largest = (MANY, SOAK_LARGEST) if soak else (FEW, LARGEST)
        files = await library.fill(sizes(dice, count, largest), seed=seed)
        known = {str(file.asset_id): SeenAsset(file.sha256, file.size) for file in files}
        owner: Account | None = None

        for to in (StorageEngine.S3, StorageEngine.LOCAL):
            with serving(library, to, owner) as (service, owner):
                with ConcurrentClient(service, owner, known, seed + len(to)) as visitor:
                    first = migrate(service, "run", to)
                    migrate(service, "switch", to)
                    await library.age()
                    cleaned = migrate(service, "cleanup", to)
                visitor.look_at_all()
            note(
                f"{first['files']} files moved to {to} ({database}) beside {visitor.counts.read} reads,"
                f" {visitor.counts.uploaded} uploads and {visitor.counts.deleted} deletions (seed {seed})"
            )
            assert visitor.counts.read
            assert cleaned["finishedAt"]
            sweep_everything(service)
            service.people.close()
            base = library.stack.settings["IMMICH_MEDIA_LOCATION"] if to is StorageEngine.LOCAL else "s3://"
            stored = [path for path in library.stack.objects() if not path.endswith("/.immich")]
            assert len(stored) == len(known)
            assert all(path.startswith(base) for path in stored)
            assert_consistent(library.stack, exact=True)
            verified = await asyncio.to_thread(mediavault, service, "verify", "--checksums")
            assert (verified.returncode, verified.stdout.splitlines()[-1]) == (0, "problems: none"), verified.stdout


async def test_a_download_and_a_zip_outlive_switch_and_cleanup(make_library: MakeLibrary, way: MoveDirection) -> None:
    library = await make_library()
    long, short = await library.fill([LONG_BYTES, 50_000])
    with serving(library, way.to) as (service, account), service.client(account) as client:
        link = make_link(client, [str(short.asset_id), str(long.asset_id)])
        with (
            UploadConnection(service.port, receive_buffer=SMALL_BUFFER) as one,
            UploadConnection(service.port, receive_buffer=SMALL_BUFFER) as zip_,
        ):
            one.send_head("GET", f"/api/assets/{long.asset_id}/original", account.headers)
            zip_.send_head("GET", link.path, {})
            assert (one.head()[0], zip_.head()[0]) == (200, 200)
            bodies = [bytearray(wire.receive(1000)) for wire in (one, zip_)]
            assert all(bodies)

            migrate(service, "run", way.to)
            migrate(service, "switch", way.to)
            await library.age()
            assert migrate(service, "cleanup", way.to)["files"] == 2
            sweep_everything(service)
            assert not library.at_source()

            for wire, body, size in ((one, bodies[0], long.size), (zip_, bodies[1], link.size)):
                while len(body) < size and (data := wire.receive(1 << 20)):
                    body += data
        assert hashlib.sha256(bodies[0]).hexdigest() == long.sha256
        with zipfile.ZipFile(BytesIO(bodies[1])) as archive:
            assert archive.testzip() is None
            digests = {hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
        assert digests == {long.sha256, short.sha256}


async def test_a_direct_link_outlives_a_rollback(make_library: MakeLibrary, way: MoveDirection) -> None:
    """The link was made at the last moment before the switch back, and is followed at its own last moment."""
    library = await make_library()
    (kept,) = await library.fill([50_000])
    link_time = timedelta(minutes=15)
    redirecting = {"S3_DELIVERY": "redirect", "MEDIAVAULT_S3_LINK_SECONDS": str(link_time.seconds)}
    with (
        serving(library, way.to, more=redirecting) as (service, account),
        service.client(account) as client,
        httpx.Client(trust_env=False, timeout=30) as outside,
    ):
        migrate(service, "run", way.to)
        if way.to is StorageEngine.S3:
            migrate(service, "switch", way.to)
        link = client.get(f"/api/assets/{kept.asset_id}/original").headers["location"]
        record_secret(parse_qs(urlsplit(link).query)["X-Amz-Signature"][0])

        assert migrate(service, "rollback", way.to)["files"] == 1
        await sweep(library.catalog, library.storage, now=now() + link_time)

        assert hashlib.sha256(outside.get(link).content).hexdigest() == kept.sha256
        await sweep(library.catalog, library.storage, now=now() + link_time + SOURCE_RETENTION)
        assert not library.at_target()


async def test_a_catalogue_with_files_that_no_place_holds_is_refused(
    make_library: MakeLibrary, way: MoveDirection
) -> None:
    library = await make_library()
    (kept,) = await library.fill([100])
    elsewhere = {"S3_PREFIX": "elsewhere"} if way.to is StorageEngine.LOCAL else {"IMMICH_MEDIA_LOCATION": "elsewhere"}
    service = Service(library.stack, settings={"IMMICH_STORAGE_ENGINE": way.to.value, **elsewhere})

    with pytest.raises(RuntimeError, match="has ended") as refused:
        service.start()

    setting = "S3_BUCKET or S3_PREFIX" if way.to is StorageEngine.LOCAL else "IMMICH_MEDIA_LOCATION"
    line = f"mediavault: {setting}: the catalogue has {kept.path}, which lies below no configured place"
    assert line in str(refused.value)
