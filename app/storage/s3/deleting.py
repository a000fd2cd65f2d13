"""Deletes of many keys: in batches where the store has them and carries them out, else one by one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence

from app.storage.errors import ObjectNotFound, StorageError, StoragePermission
from app.storage.s3.capabilities import Feature
from app.storage.s3.client import S3Client
from app.storage.s3.errors import S3Refusal, translate

BATCH = 1000
"""The most keys that S3 takes in one request."""
_CONCURRENT = 16


async def delete_keys(client: S3Client, keys: Sequence[str]) -> dict[str, StorageError]:
    """Delete at most `BATCH` keys; returns those that failed. Deleting what is not there is fine."""
    if len(keys) < 2 or not client.capabilities.has(Feature.BATCH_DELETE):
        return await _delete_singly(client, keys)
    try:
        outcome = await client.delete_batch(keys)
    except (S3Refusal, StoragePermission, ObjectNotFound) as error:
        failed = await _delete_singly(client, keys)
        if len(failed) < len(keys):
            client.capabilities.lacks(Feature.BATCH_DELETE, f"refused: {error.detail}")
        return failed
    except StorageError as error:
        return dict.fromkeys(keys, error)
    if "" in outcome.failed:  # failed, but which?
        return dict.fromkeys(keys, translate("", "delete_objects", outcome.failed[""], 0))
    failed = {
        key: error
        for key, code in outcome.failed.items()
        if not isinstance(error := translate(key, "delete_objects", code, 0), ObjectNotFound)
    }
    deleted = sorted(outcome.deleted.intersection(keys))
    if not await _carried_out(client, deleted, named_any=bool(deleted or outcome.failed)):
        deleted = []
    settled = outcome.failed.keys() | set(deleted)
    return failed | await _delete_singly(client, [key for key in keys if key not in settled])


async def _carried_out(client: S3Client, deleted: Sequence[str], *, named_any: bool) -> bool:
    """A store was seen that answers 200 and deletes nothing: one of the keys that it names is looked at."""
    if not named_any:
        client.capabilities.lacks(Feature.BATCH_DELETE, "the answer names none of the keys")
        return False
    if not deleted:
        return True
    try:
        await client.head(secrets.choice(deleted))
    except StorageError:
        return True
    client.capabilities.lacks(Feature.BATCH_DELETE, "answered 200, and the object is still there")
    return False


async def _delete_singly(client: S3Client, keys: Iterable[str]) -> dict[str, StorageError]:
    failed: dict[str, StorageError] = {}
    remaining = iter(keys)

    async def work() -> None:
        for key in remaining:
            try:
                await client.delete(key)
            except StorageError as error:
                failed[key] = error

    async with asyncio.TaskGroup() as group:
        for _ in range(_CONCURRENT):
            group.create_task(work())
    return failed
