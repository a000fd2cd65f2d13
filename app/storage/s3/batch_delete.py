"""Deletes many keys: with DeleteObjects where the store supports it, otherwise one by one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence

from app.storage.errors import ObjectNotFound, StorageError, StoragePermission
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.protocol.client import S3Client
from app.storage.s3.protocol.errors import S3RequestRefused, translate_s3_error

MAX_BATCH_KEYS = 1000
"""S3's limit of keys in one request."""
_CONCURRENT_DELETES = 16


async def delete_keys(client: S3Client, keys: Sequence[str]) -> dict[str, StorageError]:
    """Delete at most `MAX_BATCH_KEYS` keys; returns those that failed, with their errors. A missing object is no error."""
    if len(keys) < 2 or not client.capabilities.has(S3Feature.BATCH_DELETE):
        return await _delete_singly(client, keys)
    try:
        result = await client.delete_batch(keys)
    except (S3RequestRefused, StoragePermission, ObjectNotFound) as error:
        failed = await _delete_singly(client, keys)
        if len(failed) < len(keys):
            client.capabilities.mark_missing(S3Feature.BATCH_DELETE, f"refused: {error.detail}")
        return failed
    except StorageError as error:
        return dict.fromkeys(keys, error)
    if "" in result.failed:  # the store does not say which key failed
        return dict.fromkeys(keys, translate_s3_error("", "delete_objects", result.failed[""], 0))
    failed = {
        key: error
        for key, code in result.failed.items()
        if not isinstance(error := translate_s3_error(key, "delete_objects", code, 0), ObjectNotFound)
    }
    deleted = sorted(result.deleted.intersection(keys))
    if not await _are_really_deleted(client, deleted, named_any=bool(deleted or result.failed)):
        deleted = []
    answered = result.failed.keys() | set(deleted)
    return failed | await _delete_singly(client, [key for key in keys if key not in answered])


async def _are_really_deleted(client: S3Client, deleted: Sequence[str], *, named_any: bool) -> bool:
    """Checks one random key that the answer names as deleted: some stores answer 200 and delete nothing. False also if the store does not
    tell whether the object is gone: its row must not be forgotten then. A refusal (403) is no such doubt: some credentials may not look."""
    if not named_any:
        client.capabilities.mark_missing(S3Feature.BATCH_DELETE, "the answer names none of the keys")
        return False
    if not deleted:
        return True
    try:
        await client.head(secrets.choice(deleted))
    except (ObjectNotFound, StoragePermission):
        return True
    except StorageError:
        return False
    client.capabilities.mark_missing(S3Feature.BATCH_DELETE, "answered 200, and the object is still there")
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
        for _ in range(_CONCURRENT_DELETES):
            group.create_task(work())
    return failed
