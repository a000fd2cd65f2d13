"""`SessionAppend`: makes one request's bytes durable, in the storage and then in the session's row.

The stored path depends on the type, and the type on the content. So the first `SIGNATURE_BYTES` bytes lie in the row, until there are as
many or the upload is complete; only then the file's row and its write in the storage are begun.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from app.catalog.catalog import Catalog
from app.catalog.schema.upload_records import Upload, UploadState
from app.formats.signatures import SIGNATURE_BYTES, find_content_format
from app.storage.resumable import ResumableAppender, ResumableWriteState
from app.storage.service import StorageService
from app.uploads.asset_insertion import build_upload_key
from app.uploads.file_receiver import BufferPool, PipelinedWriter
from app.uploads.sessions.content_hash import ContentHash, HashState
from app.uploads.sessions.errors import UploadTakenOver
from app.uploads.uploaded_file import find_named_format

CHECKPOINT_BYTES = 64 * 1024 * 1024
CHECKPOINT_SECONDS = 10.0
"""While a body arrives, it is made durable after so many bytes, or so much time."""


class SessionAppend:
    """`upload` is the session's row as it was saved last. Raises `UploadTakenOver` where a newer request has the session."""

    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        upload: Upload,
        lifetime: timedelta,
        *,
        update_digest: Callable[[memoryview], None] | None = None,
        on_progress: Callable[[int], None] | None = None,
        pool: BufferPool | None = None,
    ) -> None:
        """`lifetime`: how long the session is kept after its last byte. `update_digest` gets the bytes of this request."""
        self.upload = upload
        self.offset = upload.offset
        self.received = 0
        """Bytes that the client has sent, durable or not."""
        self._catalog = catalog
        self._storage = storage
        self._lifetime = lifetime
        self._update_digest = update_digest
        self._on_progress = on_progress
        self._pool = pool
        self._hash = ContentHash(HashState(upload.sha1_state, upload.crc32))
        self._head = bytearray(upload.head or b"")
        self._is_head_open = upload.path is None
        """Whether the type is not known yet, so that the bytes belong into the row."""
        self._unsaved: dict[str, Any] | None = None
        self._stack = AsyncExitStack()
        self._appender: ResumableAppender | None = None
        self._pipeline: PipelinedWriter | None = None
        self._last_checkpoint = (upload.offset, time.monotonic())

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Forgets what was written since the last checkpoint."""
        try:
            return await self._stack.__aexit__(kind, error, traceback)
        finally:
            # The pipeline refers to this object: its buffers would be freed only when the garbage collector finds the cycle.
            self._pipeline = self._appender = None

    async def write(self, chunk: memoryview) -> None:
        self.offset += len(chunk)
        self.received += len(chunk)
        if self._is_head_open:
            taken = SIGNATURE_BYTES - len(self._head)
            self._hash_now(chunk[:taken])
            self._head += chunk[:taken]
            chunk = chunk[taken:]
            if len(self._head) < SIGNATURE_BYTES:
                return
        if chunk or self._is_head_open:
            pipeline = self._pipeline or await self._open_storage()
            await pipeline.feed(chunk)

    @property
    def is_checkpoint_due(self) -> bool:
        offset, moment = self._last_checkpoint
        return self.offset > offset and (
            self.offset - offset >= CHECKPOINT_BYTES or time.monotonic() - moment >= CHECKPOINT_SECONDS
        )

    async def checkpoint(self, **changes: Any) -> None:
        """Make all bytes durable, then save them and `changes` in the row."""
        await self.flush()
        if self.offset == self.upload.offset:
            await self._save(**changes)
        else:
            await self._save_bytes(changes)
        self._last_checkpoint = (self.offset, time.monotonic())
        if self._on_progress is not None:
            self._on_progress(self.offset)

    async def store_head(self) -> None:
        """Bring all durable bytes of a complete upload into the storage, where they still lie in the row."""
        if self._stored_offset() < self.upload.offset:
            await self._open_storage()
            await self._save_bytes({})

    async def flush(self) -> None:
        """Returns when all bytes are hashed and written, though not durable."""
        if self._pipeline is not None:
            await self._pipeline.flush()

    async def count_discarded(self) -> None:
        """Call it after the context: count bytes that were received but not kept; nothing of this append goes on."""
        await self._save(received_bytes=self.upload.received_bytes + self.received, writer=None)

    async def _save_bytes(self, changes: dict[str, Any]) -> None:
        state = self._hash.save()
        self._unsaved = {
            **changes,
            "state": UploadState.RECEIVING,
            "offset": self.offset,
            "sha1_state": state.sha1,
            "crc32": state.crc32,
            "received_bytes": self.upload.received_bytes + self.received,
            "expires_at": datetime.now(UTC) + self._lifetime,
            "head": bytes(self._head) if self._appender is None else None,
        }
        try:
            if self._appender is None:
                await self._save(**self._unsaved)
            else:
                await self._appender.checkpoint()
        finally:
            self._unsaved = None
        self.received = 0

    def _hash_now(self, chunk: memoryview) -> None:
        self._hash.update(chunk)
        if self._update_digest is not None:
            self._update_digest(chunk)

    async def _open_storage(self) -> PipelinedWriter:
        """Begin or continue the write in the storage, and append to it what lies in the row only."""
        state = self._find_state() or await self._begin_storage()
        appender = await self._stack.enter_async_context(
            self._storage.resumable.append(
                self._path(),
                state,
                size=self.upload.length,
                save=self._save_state,
                is_contested=self.upload.writer is not None,
            )
        )
        pipeline = await self._stack.enter_async_context(
            aclosing(PipelinedWriter(appender.write, self._hash_now, self._pool))
        )
        if missing := self._head[state.offset :]:
            await appender.write(missing)
        self._appender, self._pipeline = appender, pipeline
        return pipeline

    async def _begin_storage(self) -> ResumableWriteState:
        upload = self.upload
        if upload.path is None:
            named = find_named_format(upload.filename)
            format_ = find_content_format(bytes(self._head[:SIGNATURE_BYTES]), named)
            path = self._storage.managed_path(build_upload_key(upload.owner_id, str(upload.id), format_))
            file_id = await self._catalog.uploads.begin_file(upload, path, format_.mime_type)
            if file_id is None:
                raise UploadTakenOver
            self.upload = replace(upload, path=path, file_id=file_id)
        self._is_head_open = False
        path = self._path()
        mime_type = find_named_format(path).mime_type
        # What an earlier process has begun here stays until the commit or the abort: this process may have been stopped meanwhile, and a
        # newer one may have stored bytes.
        return await self._storage.resumable.begin(path, size=self.upload.length, content_type=mime_type)

    async def _save_state(self, state: ResumableWriteState) -> None:
        if self._unsaved is None and state.value == self.upload.storage_state:
            if not await self._catalog.uploads.owns(self.upload):
                raise UploadTakenOver
            return
        values = self._unsaved if self._unsaved is not None and state.offset == self._unsaved["offset"] else {}
        await self._save(**values, storage_state=state.value)

    async def _save(self, **values: Any) -> None:
        if not await self._catalog.uploads.save(self.upload, **values):
            raise UploadTakenOver
        self.upload = replace(self.upload, **values)

    def _find_state(self) -> ResumableWriteState | None:
        value = self.upload.storage_state
        return None if value is None else ResumableWriteState(value)

    def _stored_offset(self) -> int:
        state = self._find_state()
        return 0 if state is None else state.offset

    def _path(self) -> str:
        if self.upload.path is None:
            raise RuntimeError("the write has not begun")
        return self.upload.path


async def append_body(
    append: SessionAppend, body: AsyncIterator[bytes], check_size: Callable[[int], None], *, is_atomic: bool
) -> None:
    """Write the body, with checkpoints in between unless `is_atomic`. `check_size` raises where an offset is too large."""
    async for chunk in body:
        check_size(append.offset + len(chunk))
        await append.write(memoryview(chunk))
        if append.is_checkpoint_due and not is_atomic:
            await append.checkpoint()
