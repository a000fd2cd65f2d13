"""`S3Writer`: writes one object, by PutObject where it is small, otherwise by a multipart upload. All writers share a memory budget.

One request commits a write: PutObject or CompleteMultipartUpload. Where its answer is lost, a HEAD tells whether the object was stored: each
write puts an id of its own into the metadata.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from app.config import MEBIBYTE
from app.storage.digests import UpdateDigest, digesting
from app.storage.errors import (
    ObjectExists,
    ObjectNotFound,
    ObjectTooLarge,
    StorageError,
    StorageUnavailable,
)
from app.storage.s3.feature_probe import FeatureProbe
from app.storage.s3.part_sizes import MAXIMUM_PARTS, choose_part_size
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.protocol.client import S3Client
from app.storage.s3.protocol.errors import BACKEND, S3RequestRefused
from app.storage.s3.protocol.responses import UploadedPart
from app.storage.s3.protocol.upload_body import UploadBody, WriteBudget, WriteReservation

_MAX_PARTS_IN_FLIGHT = 4
_PIECE_BYTES = MEBIBYTE
_CLEANUP_SECONDS = 5.0
_CONFIRMATION_PAUSES = (0.0, 0.2, 0.5, 1.0)
"""Seconds before each HEAD of a new object: some stores show it after a delay."""
WRITE_ID_METADATA = "mediavault-write"
"""Metadata field with the id of the write, which tells it from other writes of the same key."""

T = TypeVar("T")


class ShieldedTasks:
    """Owns tasks that must run to their end although their callers were cancelled."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    async def aclose(self, timeout_seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved: perhaps nobody waits any more


class S3WriterFactory:
    """State that all writers of one backend share: memory budget, uncancelled tasks, ids of active multipart uploads."""

    def __init__(self, client: S3Client, budget: WriteBudget, deadline: float) -> None:
        self.client = client
        self.budget = budget
        self.uncancelled_tasks = ShieldedTasks()
        self.feature_probe = FeatureProbe(client, self.uncancelled_tasks.start)
        self.active_upload_ids: set[str] = set()
        self._commit_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.cleanup_seconds = min(_CLEANUP_SECONDS, deadline)

    def commit_lock(self, key: str) -> asyncio.Lock:
        """Held while a key is committed: with SeaweedFS several racing Completes pass their condition, and other stores have no
        conditions."""
        lock = self._commit_locks.get(key)
        if lock is None:
            lock = self._commit_locks[key] = asyncio.Lock()
        return lock

    async def check_key_free(self, feature: S3Feature, key: str) -> None:
        """Raises `ObjectExists` where the key is taken. Does nothing once it is known whether the store honours the commit's condition."""
        if not self.client.capabilities.is_known(feature):
            await self.client.check_key_free(key)

    async def verify_stored(self, key: str, write_id: str, size: int) -> None:
        """Checks that an acknowledged object exists with `size` bytes. Stores were seen that answer 200 to a Complete and keep an empty
        object, or keep it whole and tell a wrong length by HEAD. Raises `StorageUnavailable` where the object is missing or has another
        size, and then deletes it where HEAD and GET agree on the size; `ObjectExists` where it is another writer's object."""
        stored_size: int | None = None
        for pause in _CONFIRMATION_PAUSES:
            await asyncio.sleep(pause)
            try:
                head = await self.client.head(key)
                if head.metadata.get(WRITE_ID_METADATA, write_id) != write_id:
                    raise ObjectExists(key, BACKEND)
                stored_size = head.size if head.size == size else await self.client.read_size(key)
            except ObjectNotFound:
                continue
            if stored_size == size:
                if head.size != size:
                    self.client.capabilities.mark_missing(S3Feature.HEAD_LENGTH, "a HEAD was answered with a wrong one")
                return
            if WRITE_ID_METADATA in head.metadata and stored_size == head.size:
                await self.client.delete(key)
            break
        stored = "nothing" if stored_size is None else f"{stored_size} bytes"
        raise StorageUnavailable(key, BACKEND, f"the store acknowledged {size} bytes and keeps {stored}")

    async def resolve_commit(self, key: str, write_id: str, size: int, error: StorageError) -> None:
        """Decides a commit whose answer was lost, or whose repetition was refused because the first request had succeeded. Returns where
        the object carries `write_id`; otherwise raises `error`, `ObjectExists` or `StorageUnavailable`."""
        try:
            head = await self.client.head(key, timeout_seconds=self.cleanup_seconds)
        except ObjectNotFound:
            if isinstance(error, ObjectNotFound | ObjectExists):
                # The upload is gone without an object, or the object that was in the way is gone: a retry may succeed.
                raise StorageUnavailable(key, BACKEND, "refused, and yet there is no object") from error
            raise error from None
        except StorageError:
            raise error from None
        if head.metadata.get(WRITE_ID_METADATA) != write_id or head.size != size:
            raise ObjectExists(key, BACKEND) from None

    def create_writer(
        self, key: str, *, size: int | None, content_type: str | None, metadata: Mapping[str, str] | None
    ) -> S3Writer:
        """Raises `ObjectTooLarge` where `size` exceeds the largest possible object."""
        if size is not None and size > choose_part_size(size) * MAXIMUM_PARTS:
            raise ObjectTooLarge(key, BACKEND, f"{size} bytes")
        return S3Writer(self, key, size=size, content_type=content_type, metadata=metadata or {})


class S3Writer:
    """Writes one object. Either `commit` or `discard` ends it; a further `discard` does nothing."""

    def __init__(
        self,
        uploads: S3WriterFactory,
        key: str,
        *,
        size: int | None,
        content_type: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        self._uploads = uploads
        self._client = uploads.client
        self._key = key
        self._expected = size
        self._content_type = content_type
        self._write_id = secrets.token_hex(16)
        self._metadata = {**metadata, WRITE_ID_METADATA: self._write_id}
        self._part_size = choose_part_size(size)
        self._size = 0
        self._body, self._reservation = self._new_part()
        self._slots = asyncio.Semaphore(_MAX_PARTS_IN_FLIGHT)
        self._create_task: asyncio.Task[str] | None = None
        self._part_tasks: list[asyncio.Task[UploadedPart]] = []
        self._failure: BaseException | None = None
        self._is_ended = False

    @property
    def size(self) -> int:
        return self._size

    async def write(self, data: bytes | bytearray | memoryview, update_digest: UpdateDigest | None = None) -> None:
        """See `ObjectWriter.write`. Raises the first error of any part so far."""
        async with digesting(data, update_digest):
            await self._write(data)

    async def _write(self, data: bytes | bytearray | memoryview) -> None:
        self._check_size(data.nbytes if isinstance(data, memoryview) else len(data))
        if isinstance(data, bytes) and len(data) <= min(_PIECE_BYTES, self._part_size - len(self._body)):
            await self._append(data)
            return
        view = memoryview(data).cast("B")
        while len(view):
            piece_size = min(_PIECE_BYTES, self._part_size - len(self._body))
            await self._append(view[:piece_size])
            view = view[piece_size:]

    async def commit(self) -> None:
        """Returns when the object is stored. When cancelled during the request, it still waits for the answer, and then raises the
        cancellation: the object may exist, and the caller has to account for it."""
        self._check_size(0)
        if self._expected is not None and self._size != self._expected:
            raise S3RequestRefused(self._key, BACKEND, f"{self._size} bytes written, {self._expected} announced")
        if self._create_task is None:
            await self._run_uncancelled(self._put())
        else:
            if len(self._body):
                await self._start_part()
            parts = await self._sent_parts()
            await self._run_uncancelled(self._complete(await self._create_task, parts))
        self._end()

    async def discard(self) -> None:
        """Abort the upload. Waits `cleanup_seconds` at most; the clean-up then goes on in the background."""
        if self._is_ended:
            return
        self._end()
        clean_up = self._uploads.uncancelled_tasks.start(self._clean_up())
        await asyncio.wait({clean_up}, timeout=self._uploads.cleanup_seconds)

    def _new_part(self) -> tuple[UploadBody, WriteReservation]:
        return UploadBody(with_checksum=self._client.sends_own_checksums), self._uploads.budget.create_reservation(
            self._key
        )

    def _check_size(self, more: int) -> None:
        if self._failure is not None:
            raise self._failure
        total = self._size + more
        if self._expected is not None and total > self._expected:
            raise ObjectTooLarge(self._key, BACKEND, f"more than the {self._expected} bytes announced")
        if total > self._part_size * MAXIMUM_PARTS:
            raise ObjectTooLarge(self._key, BACKEND, f"more than {MAXIMUM_PARTS} parts of {self._part_size} bytes")

    async def _append(self, piece: bytes | memoryview) -> None:
        await self._reservation.grow(len(piece))
        self._body.append(piece)
        self._size += len(piece)
        if len(self._body) == self._part_size:
            await self._start_part()

    async def _start_part(self) -> None:
        """Start sending the current part, as soon as fewer than `_MAX_PARTS_IN_FLIGHT` parts are being sent."""
        if self._create_task is None:
            self._create_task = self._uploads.uncancelled_tasks.start(self._create_upload())
        upload_id = await asyncio.shield(self._create_task)
        await self._slots.acquire()
        if self._failure is not None:
            self._slots.release()
            raise self._failure
        body, reservation = self._body, self._reservation
        self._body, self._reservation = self._new_part()
        number = len(self._part_tasks) + 1
        task = asyncio.create_task(self._send_part(upload_id, number, body))
        task.add_done_callback(lambda done: self._on_part_done(done, reservation))
        self._part_tasks.append(task)

    async def _create_upload(self) -> str:
        await self._uploads.feature_probe.probe_multipart()
        upload_id = await self._client.create_upload(
            self._key, content_type=self._content_type, metadata=self._metadata
        )
        self._uploads.active_upload_ids.add(upload_id)
        return upload_id

    async def _send_part(self, upload_id: str, number: int, body: UploadBody) -> UploadedPart:
        return await self._client.upload_part(self._key, upload_id, number, body)

    def _on_part_done(self, task: asyncio.Task[UploadedPart], reservation: WriteReservation) -> None:
        reservation.release()
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None and self._failure is None:
            self._failure = error

    async def _sent_parts(self) -> list[UploadedPart]:
        await asyncio.wait(self._part_tasks)
        if self._failure is not None:
            raise self._failure
        return [task.result() for task in self._part_tasks]

    async def _put(self) -> None:
        try:
            async with self._uploads.commit_lock(self._key):
                await self._uploads.check_key_free(S3Feature.CONDITIONAL_PUT, self._key)
                await self._client.put(
                    self._key, self._body, content_type=self._content_type, metadata=self._metadata, if_absent=True
                )
        except (StorageUnavailable, ObjectExists) as error:
            await self._resolve_commit(error)

    async def _complete(self, upload_id: str, parts: list[UploadedPart]) -> None:
        try:
            async with self._uploads.commit_lock(self._key):
                await self._uploads.check_key_free(S3Feature.CONDITIONAL_COMPLETE, self._key)
                await self._client.complete(self._key, upload_id, parts, size=self._size, if_absent=True)
        except (StorageUnavailable, ObjectExists, ObjectNotFound) as error:
            await self._resolve_commit(error)
        else:
            await self._uploads.verify_stored(self._key, self._write_id, self._size)
        self._uploads.active_upload_ids.discard(upload_id)

    async def _resolve_commit(self, error: StorageError) -> None:
        await self._uploads.resolve_commit(self._key, self._write_id, self._size, error)

    async def _run_uncancelled(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._uploads.uncancelled_tasks.start(coroutine)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            if not task.cancelled() and task.exception() is None:
                self._end()
            raise

    def _end(self) -> None:
        self._is_ended = True
        self._reservation.release()
        self._body = UploadBody()

    async def _clean_up(self) -> None:
        for task in self._part_tasks:
            task.cancel()
        await asyncio.gather(*self._part_tasks, return_exceptions=True)
        if self._create_task is None:
            return
        upload_id = await self._create_task
        # From here on a sweep may abort it, in case the store does not answer now.
        self._uploads.active_upload_ids.discard(upload_id)
        await self._client.abort(self._key, upload_id)
