"""`S3Appender`: appends bytes to one resumable write: full parts are sent as they fill up, the rest is put as a tail at a checkpoint.

The order of a checkpoint: parts and the new tail, then the saved state, then the old tail is deleted. Whatever the saved state does not
name, such as parts of an older append that arrive late, becomes no part of the object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing, suppress
from dataclasses import replace

from app.config import MEBIBYTE
from app.storage.crc32 import crc32
from app.storage.digests import UpdateDigest, digesting
from app.storage.errors import ObjectNotFound, ObjectTooLarge, StorageError
from app.storage.key import Key
from app.storage.resumable import SaveState
from app.storage.s3.part_sizes import MAXIMUM_PARTS
from app.storage.s3.protocol.errors import BACKEND, MultipartUploadMissing
from app.storage.s3.protocol.responses import UploadedPart
from app.storage.s3.protocol.upload_body import UploadBody, WriteReservation
from app.storage.s3.resumable_state import S3WriteState, TailObject, make_tail_token, tail_key
from app.storage.s3.writer import WRITE_ID_METADATA, S3WriterFactory

_MAX_PARTS_IN_FLIGHT = 4
_PIECE_BYTES = MEBIBYTE
_RESERVED_PARTS = 8
"""Part numbers that one call of `save` reserves."""


class S3Appender:
    """`close` ends it. A cancelled call may be repeated: `offset` tells which bytes were taken."""

    def __init__(
        self, uploads: S3WriterFactory, key: Key, state: S3WriteState, size: int | None, save: SaveState
    ) -> None:
        self._uploads = uploads
        self._client = uploads.client
        self._key = key.value
        self._state = state
        self._size = size
        self._save = save
        self._offset = state.offset
        self._last_number: int = state.reserved
        """The highest part number that may be in use, apart from those reserved and not yet sent."""
        self._body, self._reservation = self._new_body()
        self._is_tail_loaded = state.tail is None
        self._slots = asyncio.Semaphore(_MAX_PARTS_IN_FLIGHT)
        self._part_tasks: list[asyncio.Task[UploadedPart]] = []
        self._create_task: asyncio.Task[str] | None = None
        self._failure: BaseException | None = None
        if state.upload_id is not None:
            uploads.active_upload_ids.add(state.upload_id)

    @property
    def offset(self) -> int:
        return self._offset

    async def write(self, data: bytes | bytearray | memoryview, update_digest: UpdateDigest | None = None) -> None:
        async with digesting(data, update_digest):
            await self._write(data)

    async def _write(self, data: bytes | bytearray | memoryview) -> None:
        count = data.nbytes if isinstance(data, memoryview) else len(data)
        self._check_size(count)
        await self._check_failure()
        if not count:
            return
        await self._load_tail()
        view = memoryview(data).cast("B")
        while len(view):
            if len(self._body) == self._state.part_size:
                await self._start_part()
            count = min(_PIECE_BYTES, self._state.part_size - len(self._body), len(view))
            await self._reservation.grow(count)
            self._body.append(data if isinstance(data, bytes) and count == len(data) else view[:count])
            self._offset += count
            view = view[count:]
        if len(self._body) == self._state.part_size:
            await self._start_part()

    async def checkpoint(self) -> None:
        if self._offset == self._state.offset:
            await self._check_failure()
            await self._save(self._state.to_saved())
            return
        is_end = self._offset == self._size
        if len(self._body) == self._state.part_size or (is_end and len(self._body)):
            await self._start_part()
        if self._part_tasks:
            await asyncio.wait(self._part_tasks)
        await self._check_failure()
        tail = await self._put_tail() if len(self._body) else None
        old = self._state
        new = replace(
            old,
            offset=self._offset,
            parts=(*old.parts, *(task.result() for task in self._part_tasks)),
            reserved=self._last_number,
            tail=tail,
        )
        await self._save(new.to_saved())
        self._state = new
        self._part_tasks = []
        self._is_tail_loaded = True
        if old.tail is not None:
            with suppress(StorageError):  # the commit, the abort or the sweep finds it
                await self._client.delete(tail_key(self._key, old.tail.token))

    async def discard(self) -> None:
        await self._cancel_parts()
        self._reservation.release()
        self._body, self._reservation = self._new_body()
        self._is_tail_loaded = self._state.tail is None
        self._offset = self._state.offset

    async def close(self) -> None:
        """Waits for no store that does not answer: parts that are being sent are given up."""
        await self._cancel_parts()
        self._reservation.release()
        self._body = UploadBody()
        if self._create_task is not None and not self._create_task.cancelled():
            self._create_task.add_done_callback(self._forget_created)
        self._uploads.active_upload_ids.discard(self._state.upload_id or "")

    def _forget_created(self, task: asyncio.Task[str]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._uploads.active_upload_ids.discard(task.result())

    def _new_body(self) -> tuple[UploadBody, WriteReservation]:
        body = UploadBody(with_checksum=self._client.sends_own_checksums)
        return body, self._uploads.budget.create_reservation(self._key)

    def _check_size(self, more: int) -> None:
        if self._size is not None and self._offset + more > self._size:
            raise ObjectTooLarge(self._key, BACKEND, f"more than the announced {self._size} bytes")

    async def _check_failure(self) -> None:
        """Raises the first error of a part. The multipart upload is also missing where a newer append has committed the write: then
        `save` raises."""
        if isinstance(self._failure, MultipartUploadMissing):
            await self._save(self._state.to_saved())
            raise ObjectNotFound(self._key, BACKEND, "the multipart upload is gone, and with it stored bytes")
        if self._failure is not None:
            raise self._failure

    async def _load_tail(self) -> None:
        tail = self._state.tail
        if self._is_tail_loaded or tail is None:
            return
        body, reservation = self._new_body()
        try:
            await reservation.grow(tail.size)
            await load_tail(self._uploads, self._key, tail, body)
        except BaseException as error:
            reservation.release()
            if isinstance(error, ObjectNotFound):
                await self._save(
                    self._state.to_saved()
                )  # raises where the tail is gone because a newer append has deleted it
            raise
        self._body, self._reservation = body, reservation
        self._is_tail_loaded = True

    async def _put_tail(self) -> TailObject:
        token = make_tail_token()
        body = self._body
        body.seek(0)
        await self._client.put(tail_key(self._key, token), body, content_type=None, metadata={}, if_absent=False)
        return TailObject(token, len(body), body.crc32)

    async def _start_part(self) -> None:
        """Start sending the current part, as soon as fewer than `_MAX_PARTS_IN_FLIGHT` parts are being sent."""
        if self._state.upload_id is None or self._last_number == self._state.reserved:
            await self._reserve_numbers()
        upload_id = self._state.upload_id or ""
        await self._slots.acquire()
        if self._failure is not None:
            self._slots.release()
            await self._check_failure()
        body, reservation = self._body, self._reservation
        self._body, self._reservation = self._new_body()
        self._last_number += 1
        body.seek(0)
        task = asyncio.create_task(self._client.upload_part(self._key, upload_id, self._last_number, body))
        task.add_done_callback(lambda done: self._on_part_done(done, reservation))
        self._part_tasks.append(task)

    async def _reserve_numbers(self) -> None:
        """Save that part numbers, and a multipart upload where there is none yet, may be used from now on."""
        if self._last_number >= MAXIMUM_PARTS:
            raise ObjectTooLarge(self._key, BACKEND, f"all {MAXIMUM_PARTS} part numbers are used up")
        upload_id = self._state.upload_id or await self._create_upload()
        reserved = min(self._last_number + _RESERVED_PARTS, MAXIMUM_PARTS)
        state = replace(self._state, upload_id=upload_id, reserved=reserved)
        await self._save(state.to_saved())
        self._state = state

    async def _create_upload(self) -> str:
        if self._create_task is None:
            self._create_task = self._uploads.uncancelled_tasks.start(self._request_upload())
        return await asyncio.shield(self._create_task)

    async def _request_upload(self) -> str:
        await self._uploads.feature_probe.probe_multipart()
        upload_id = await self._client.create_upload(
            self._key, content_type=self._state.content_type, metadata=make_metadata(self._state)
        )
        self._uploads.active_upload_ids.add(upload_id)
        return upload_id

    def _on_part_done(self, task: asyncio.Task[UploadedPart], reservation: WriteReservation) -> None:
        reservation.release()
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None and self._failure is None:
            self._failure = error

    async def _cancel_parts(self) -> None:
        tasks, self._part_tasks = self._part_tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=self._uploads.cleanup_seconds)


def make_metadata(state: S3WriteState) -> Mapping[str, str]:
    return {WRITE_ID_METADATA: state.write_id}


async def load_tail(uploads: S3WriterFactory, key: str, tail: TailObject, body: UploadBody) -> None:
    """Append the tail's bytes to `body`. Raises `ObjectNotFound` where the tail is missing, or holds other bytes."""
    name = tail_key(key, tail.token)
    found, checksum = 0, 0
    async with aclosing(uploads.client.read_pieces(name, tail.size + 1)) as pieces:
        async for piece in pieces:
            body.append(piece)
            found += len(piece)
            checksum = crc32(piece, checksum)
    if found != tail.size or checksum != tail.crc32:
        raise ObjectNotFound(key, BACKEND, f"its tail holds {found} of {tail.size} bytes, or other bytes")
