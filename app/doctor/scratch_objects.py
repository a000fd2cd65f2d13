"""Scratch objects in a store: reserved names, which no listing of the library shows, and what is made under them is removed again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from app.doctor.findings import ReportSection
from app.storage.errors import ObjectNotFound, StorageError
from app.storage.key import TEMPORARY_PREFIX, TEMPORARY_SUFFIX
from app.storage.s3 import S3Backend

CLEAN_UP_SECONDS = 30.0


class ScratchObjects:
    """Names for one diagnosis. Those that a killed one leaves are swept by the service after a day."""

    def __init__(self) -> None:
        self.prefix = f"{TEMPORARY_PREFIX}doctor-{secrets.token_hex(8)}-"
        self.keys: dict[str, None] = {}

    def create_key(self, name: str) -> str:
        """Of an object that is about to be made."""
        key = f"{self.prefix}{name}{TEMPORARY_SUFFIX}"
        self.keys[key] = None
        return key


@asynccontextmanager
async def open_scratch_objects(backend: S3Backend, area: ReportSection) -> AsyncIterator[ScratchObjects]:
    """Whatever happens, a cancellation too, nothing of it is left; what cannot be removed is a finding."""
    scratch = ScratchObjects()
    try:
        yield scratch
    finally:
        try:
            async with asyncio.timeout(CLEAN_UP_SECONDS):
                left = await _remove_all(backend, scratch)
        except TimeoutError:
            left = list(scratch.keys)
        if left:
            hint = "the service removes them after a day, once it may"
            area.fail("clean up", f"could not remove {', '.join(left)}", hint)


async def _remove_all(backend: S3Backend, scratch: ScratchObjects) -> Sequence[str]:
    """The names that could not be removed."""
    client, left = backend.client, list[str]()
    for key in scratch.keys:
        try:
            await client.delete(key)
        except StorageError:
            if not await _is_gone(backend, key):
                left.append(key)
    try:
        for upload in (await client.list_uploads(None)).items:
            for key in upload.keys:
                if key.startswith(scratch.prefix):
                    await client.abort(key, upload.upload_id)
    except StorageError:
        pass  # those that are known of were aborted where they were made
    return left


async def _is_gone(backend: S3Backend, key: str) -> bool:
    try:
        await backend.client.head(key)
    except ObjectNotFound:
        return True
    except StorageError:
        return False  # it cannot be told
    return False
