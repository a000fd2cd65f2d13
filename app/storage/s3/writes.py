"""Writes: one put for what is small, parts for the rest, within the memory that all uploads share.

A write is committed by one call, the put or the completion of the parts. What is in doubt after a lost answer is
settled by asking for the object: each write carries a mark of its own in the metadata.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from app.config import MEBIBYTE
from app.storage.errors import (
    ObjectExists,
    ObjectNotFound,
    ObjectTooLarge,
    StorageError,
    StorageUnavailable,
)
from app.storage.s3.answers import Part
from app.storage.s3.body import Body, Lease, WriteBudget
from app.storage.s3.capabilities import Feature
from app.storage.s3.client import S3Client
from app.storage.s3.errors import BACKEND, S3Refusal
from app.storage.s3.trial import Trial

MINIMUM_PART_BYTES = 8 * MEBIBYTE
MAXIMUM_PART_BYTES = 16 * MEBIBYTE
MAXIMUM_PARTS = 10_000
_COMFORTABLE_PARTS = 9_000
_IN_FLIGHT = 4
_PIECE_BYTES = MEBIBYTE
_CLEANUP_SECONDS = 5.0
_CONFIRMATION_PAUSES = (0.0, 0.2, 0.5, 1.0)
"""Seconds before each look for a new object: some stores take a moment to show it."""
MARK = "mediavault-write"
"""The metadata that tells one write from another one of the same key."""

T = TypeVar("T")


def part_size(size: int | None) -> int:
    """Bytes per part of an upload of `size` bytes (None: not known), the same for all its parts."""
    if size is None:
        return MINIMUM_PART_BYTES
    return min(max(MINIMUM_PART_BYTES, -(-size // _COMFORTABLE_PARTS)), MAXIMUM_PART_BYTES)


class Chores:
    """Calls that must run to their end although whoever began them was cancelled: they have an owner here."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    async def aclose(self, patience: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has seen it; nobody may be left to


class Uploads:
    """What all writers of one backend share: the memory, the chores, and which multipart uploads are alive."""

    def __init__(self, client: S3Client, budget: WriteBudget, deadline: float) -> None:
        self.client = client
        self.budget = budget
        self.chores = Chores()
        self.trial = Trial(client, self.chores.start)
        self.alive: set[str] = set()
        self._commits: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.cleanup_seconds = min(_CLEANUP_SECONDS, deadline)

    def commit_of(self, key: str) -> asyncio.Lock:
        """Held while a key is committed: SeaweedFS lets several Completes that race pass their condition, and other stores have none."""
        lock = self._commits.get(key)
        if lock is None:
            lock = self._commits[key] = asyncio.Lock()
        return lock

    async def require_free(self, feature: Feature, key: str) -> None:
        """Raises `ObjectExists` where a key is taken, as long as it is not known whether the store heeds the condition of its commit."""
        if not self.client.capabilities.is_known(feature):
            await self.client.require_free(key)

    async def confirm(self, key: str, mark: str, size: int) -> None:
        """The store has acknowledged the object: has it kept it? Stores were seen that answer 200 to a Complete and keep an empty
        object, and such that keep it and tell a wrong length by HEAD. Raises `StorageUnavailable` where it is not kept, and leaves nothing
        of it where HEAD and GET agree; `ObjectExists` where another writer's is there."""
        kept: int | None = None
        for pause in _CONFIRMATION_PAUSES:
            await asyncio.sleep(pause)
            try:
                found = await self.client.head(key)
                if found.metadata.get(MARK, mark) != mark:
                    raise ObjectExists(key, BACKEND)
                kept = found.size if found.size == size else await self.client.size_by_get(key)
            except ObjectNotFound:
                continue
            if kept == size:
                if found.size != size:
                    self.client.capabilities.lacks(Feature.HEAD_LENGTH, "a HEAD was answered with a wrong one")
                return
            if MARK in found.metadata and kept == found.size:
                await self.client.delete(key)
            break
        what = "nothing" if kept is None else f"{kept} bytes"
        raise StorageUnavailable(key, BACKEND, f"the store acknowledged {size} bytes and keeps {what}")

    async def settle(self, key: str, mark: str, size: int, error: StorageError) -> None:
        """The answer to a commit was lost, or a repeated commit met its own success: is the object the one with this
        mark? Returns if so, else raises what is known."""
        try:
            found = await self.client.head(key, limit=self.cleanup_seconds)
        except ObjectNotFound:
            if isinstance(error, ObjectNotFound | ObjectExists):
                # The upload is gone and no object came of it, or what was in the way is gone: again is worth a try.
                raise StorageUnavailable(key, BACKEND, "refused, and yet there is no object") from error
            raise error from None
        except StorageError:
            raise error from None
        if found.metadata.get(MARK) != mark or found.size != size:
            raise ObjectExists(key, BACKEND) from None

    def writer(
        self, key: str, *, size: int | None, content_type: str | None, metadata: Mapping[str, str] | None
    ) -> S3Writer:
        """Raises `ObjectTooLarge` where `size` is more than any object can have."""
        if size is not None and size > part_size(size) * MAXIMUM_PARTS:
            raise ObjectTooLarge(key, BACKEND, f"{size} bytes")
        return S3Writer(self, key, size=size, content_type=content_type, metadata=metadata or {})


class S3Writer:
    """One object on its way. Exactly one of `commit` and `discard` ends it; `discard` after either is fine."""

    def __init__(
        self, uploads: Uploads, key: str, *, size: int | None, content_type: str | None, metadata: Mapping[str, str]
    ) -> None:
        self._uploads = uploads
        self._client = uploads.client
        self._key = key
        self._expected = size
        self._content_type = content_type
        self._mark = secrets.token_hex(16)
        self._metadata = {**metadata, MARK: self._mark}
        self._part_size = part_size(size)
        self._size = 0
        self._body, self._lease = self._fresh()
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._creating: asyncio.Task[str] | None = None
        self._sending: list[asyncio.Task[Part]] = []
        self._failure: BaseException | None = None
        self._ended = False

    @property
    def size(self) -> int:
        return self._size

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `ObjectWriter.write`. Raises what went wrong with any part so far."""
        self._check(data.nbytes if isinstance(data, memoryview) else len(data))
        if isinstance(data, bytes) and len(data) <= min(_PIECE_BYTES, self._part_size - len(self._body)):
            await self._take(data)
            return
        view = memoryview(data).cast("B")
        while len(view):
            room = min(_PIECE_BYTES, self._part_size - len(self._body))
            await self._take(view[:room])
            view = view[room:]

    async def commit(self) -> None:
        """Returns when the object is there. Cancelled while it waits for the store, it still waits, and then raises
        the cancellation: the object may be there, and whoever keeps account of it has to look."""
        self._check(0)
        if self._expected is not None and self._size != self._expected:
            raise S3Refusal(self._key, BACKEND, f"{self._size} bytes written, {self._expected} announced")
        if self._creating is None:
            await self._to_the_end(self._put())
        else:
            if len(self._body):
                await self._send()
            parts = await self._sent_parts()
            await self._to_the_end(self._complete(await self._creating, parts))
        self._end()

    async def discard(self) -> None:
        """Leave nothing at the store. Waits a few seconds for it; the rest goes on in the background."""
        if self._ended:
            return
        self._end()
        clean_up = self._uploads.chores.start(self._clean_up())
        await asyncio.wait({clean_up}, timeout=self._uploads.cleanup_seconds)

    def _fresh(self) -> tuple[Body, Lease]:
        return Body(checksum=self._client.own_checksums), self._uploads.budget.lease(self._key)

    def _check(self, more: int) -> None:
        if self._failure is not None:
            raise self._failure
        total = self._size + more
        if self._expected is not None and total > self._expected:
            raise ObjectTooLarge(self._key, BACKEND, f"more than the {self._expected} bytes announced")
        if total > self._part_size * MAXIMUM_PARTS:
            raise ObjectTooLarge(self._key, BACKEND, f"more than {MAXIMUM_PARTS} parts of {self._part_size} bytes")

    async def _take(self, piece: bytes | memoryview) -> None:
        await self._lease.grow(len(piece))
        self._body.add(piece)
        self._size += len(piece)
        if len(self._body) == self._part_size:
            await self._send()

    async def _send(self) -> None:
        """Hand the part that is full (or the last one) over, as soon as fewer than four are on their way."""
        if self._creating is None:
            self._creating = self._uploads.chores.start(self._create())
        upload_id = await asyncio.shield(self._creating)
        await self._slots.acquire()
        if self._failure is not None:
            self._slots.release()
            raise self._failure
        body, lease = self._body, self._lease
        self._body, self._lease = self._fresh()
        number = len(self._sending) + 1
        task = asyncio.create_task(self._send_part(upload_id, number, body))
        task.add_done_callback(lambda done: self._part_done(done, lease))
        self._sending.append(task)

    async def _create(self) -> str:
        await self._uploads.trial.multipart()
        upload_id = await self._client.create_upload(
            self._key, content_type=self._content_type, metadata=self._metadata
        )
        self._uploads.alive.add(upload_id)
        return upload_id

    async def _send_part(self, upload_id: str, number: int, body: Body) -> Part:
        return await self._client.upload_part(self._key, upload_id, number, body)

    def _part_done(self, task: asyncio.Task[Part], lease: Lease) -> None:
        lease.release()
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None and self._failure is None:
            self._failure = error

    async def _sent_parts(self) -> list[Part]:
        await asyncio.wait(self._sending)
        if self._failure is not None:
            raise self._failure
        return [task.result() for task in self._sending]

    async def _put(self) -> None:
        try:
            async with self._uploads.commit_of(self._key):
                await self._uploads.require_free(Feature.CONDITIONAL_PUT, self._key)
                await self._client.put(
                    self._key, self._body, content_type=self._content_type, metadata=self._metadata, once=True
                )
        except (StorageUnavailable, ObjectExists) as error:
            await self._settle(error)

    async def _complete(self, upload_id: str, parts: list[Part]) -> None:
        try:
            async with self._uploads.commit_of(self._key):
                await self._uploads.require_free(Feature.CONDITIONAL_COMPLETE, self._key)
                await self._client.complete(self._key, upload_id, parts, size=self._size, once=True)
        except (StorageUnavailable, ObjectExists, ObjectNotFound) as error:
            await self._settle(error)
        else:
            await self._uploads.confirm(self._key, self._mark, self._size)
        self._uploads.alive.discard(upload_id)

    async def _settle(self, error: StorageError) -> None:
        await self._uploads.settle(self._key, self._mark, self._size, error)

    async def _to_the_end(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._uploads.chores.start(work)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is None:
                self._end()
            raise

    def _end(self) -> None:
        self._ended = True
        self._lease.release()
        self._body = Body()

    async def _clean_up(self) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        if self._creating is None:
            return
        upload_id = await self._creating
        # From here on a sweep may take it, should the store not answer now.
        self._uploads.alive.discard(upload_id)
        await self._client.abort(self._key, upload_id)
