"""Scratch objects of a diagnosis: reserved names in an S3 store, which no listing of media shows. They are removed at the end."""

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
    """The names of one diagnosis. The service's sweep removes objects that a killed diagnosis has left, after a day."""

    def __init__(self) -> None:
        self.prefix = f"{TEMPORARY_PREFIX}doctor-{secrets.token_hex(8)}-"
        self.keys: dict[str, None] = {}

    def create_key(self, name: str) -> str:
        """A key for an object that the caller is about to create. It is remembered for removal."""
        key = f"{self.prefix}{name}{TEMPORARY_SUFFIX}"
        self.keys[key] = None
        return key


@asynccontextmanager
async def open_scratch_objects(backend: S3Backend, section: ReportSection) -> AsyncIterator[ScratchObjects]:
    """Removes all scratch objects at the end, also on an error or a cancellation. Objects that cannot be removed are reported in a finding."""
    scratch = ScratchObjects()
    try:
        yield scratch
    finally:
        try:
            async with asyncio.timeout(CLEAN_UP_SECONDS):
                remaining = await _remove_all(backend, scratch)
        except TimeoutError:
            remaining = list(scratch.keys)
        if remaining:
            hint = "the service removes them after a day, once it may"
            section.fail("clean up", f"could not remove {', '.join(remaining)}", hint)


async def _remove_all(backend: S3Backend, scratch: ScratchObjects) -> Sequence[str]:
    """Removes the objects and aborts their multipart uploads. Returns the keys that could not be removed."""
    client, remaining = backend.client, list[str]()
    for key in scratch.keys:
        try:
            await client.delete(key)
        except StorageError:
            if not await _is_gone(backend, key):
                remaining.append(key)
    try:
        for upload in (await client.list_uploads(None)).items:
            for key in upload.keys:
                if key.startswith(scratch.prefix):
                    await client.abort(key, upload.upload_id)
    except StorageError:
        pass  # the check that began an upload has aborted it already
    return remaining


async def _is_gone(backend: S3Backend, key: str) -> bool:
    try:
        await backend.client.head(key)
    except ObjectNotFound:
        return True
    except StorageError:
        return False  # unknown
    return False
