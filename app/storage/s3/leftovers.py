"""Removes what writes of dead processes, and ended resumable writes, have left in the bucket: probe objects, tails, multipart uploads."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from app.storage.backend import FindKeysInUse
from app.storage.key import TEMPORARY_PREFIX, is_temporary
from app.storage.s3.object_lister import ObjectLister
from app.storage.s3.protocol.client import S3Client
from app.storage.s3.protocol.responses import UNKNOWN_DATE
from app.storage.s3.resumable_state import find_tail_owner

_BATCH = 1000


class LeftoverSweeper:
    """`active_upload_ids` are those of multipart uploads that this process is writing; it may change at any time."""

    def __init__(self, client: S3Client, lister: ObjectLister, active_upload_ids: Collection[str]) -> None:
        self._client = client
        self._lister = lister
        self._active_upload_ids = active_upload_ids

    async def sweep(self, limit: datetime, find_in_use: FindKeysInUse | None) -> int:
        """Removes what is older than `limit` and not in use; returns how many. Aborting uploads needs a separate permission, and so
        comes last."""
        return await self._sweep_objects(limit, find_in_use) + await self._sweep_uploads(limit, find_in_use)

    async def _sweep_objects(self, limit: datetime, find_in_use: FindKeysInUse | None) -> int:
        swept = 0
        batch: list[str] = []
        async for item in self._lister.list_objects(TEMPORARY_PREFIX, None):
            if UNKNOWN_DATE < item.last_modified <= limit and is_temporary(item.key.partition("/")[0]):
                batch.append(item.key)
            if len(batch) == _BATCH:
                swept += await self._delete_unused(batch, find_in_use)
                batch = []
        return swept + await self._delete_unused(batch, find_in_use)

    async def _delete_unused(self, keys: Sequence[str], find_in_use: FindKeysInUse | None) -> int:
        owners = {key: find_tail_owner(key) for key in keys}
        in_use = await _find_in_use(filter(None, owners.values()), find_in_use)
        unused = [key for key in keys if owners[key] not in in_use]
        for key in unused:
            await self._client.delete(key)
        return len(unused)

    async def _sweep_uploads(self, limit: datetime, find_in_use: FindKeysInUse | None) -> int:
        swept = 0
        marker: tuple[str, ...] | None = None
        while True:
            page = await self._client.list_uploads(marker)
            old = [upload for upload in page.items if upload.started_at is not None and upload.started_at <= limit]
            in_use = await _find_in_use((key for upload in old for key in upload.keys), find_in_use)
            for upload in old:
                if upload.upload_id not in self._active_upload_ids and in_use.isdisjoint(upload.keys):
                    for key in upload.keys:
                        await self._client.abort(key, upload.upload_id)
                    swept += 1
            marker = page.next_marker
            if marker is None:
                return swept


async def _find_in_use(keys: Iterable[str], find_in_use: FindKeysInUse | None) -> frozenset[str]:
    asked = set(keys)
    return frozenset(await find_in_use(asked)) if find_in_use is not None and asked else frozenset()
