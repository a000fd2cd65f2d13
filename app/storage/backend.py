"""`StorageBackend`: the protocol that the local disk and S3 implement, and its value types.

Callers outside this package use `StorageService`, not a backend. An operation that a backend does not support returns
`None`; callers never check the type of a backend. The tests in `tests/storage/conformance.py` define the guarantees.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from app.storage.digests import UpdateDigest
from app.storage.errors import StorageError
from app.storage.key import Key
from app.storage.ranges import ByteRange, FileWindow
from app.storage.resumable import ResumableWrites

CHUNK_BYTES = 256 * 1024
"""The size of the chunks that a read yields, and so the memory that a stalled reader holds."""

MAX_CHUNK_BYTES = 1024 * 1024
"""The largest chunk that a read yields, and a good size for `ObjectWriter.write`."""

WINDOW_BYTES = 4 * 1024 * 1024
"""The largest window of a file that a read yields. A window holds no memory."""

MARKER_SLACK_BYTES = 64
"""A marker is read up to this many bytes past the length of its expected text (see `marker_matches`)."""

_READING_ACCOUNT: ContextVar[Hashable] = ContextVar("the account for which a task reads", default=None)

FindKeysInUse = Callable[[Collection[str]], Awaitable[Collection[str]]]
"""Returns those of the given keys for which a resumable write may still go on."""


def read_for_account(account: Hashable) -> None:
    """From now on the current task, and the tasks that it starts, read for this account: connections to a store are shared fairly between
    accounts. A task that does not call it reads for the service."""
    _READING_ACCOUNT.set(account)


def find_reading_account() -> Hashable:
    """The account of the current task; None for the service."""
    return _READING_ACCOUNT.get()


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """`key` is the key's text, or the path of an external file. `size` is in bytes, `last_modified` is aware UTC.
    `etag` is opaque: equal etags mean equal bytes. `if_match` takes an etag."""

    key: str
    size: int
    last_modified: datetime
    etag: str


def is_strong(etag: str) -> bool:
    """Whether equal tags mean equal bytes (RFC 9110 section 8.8.1), so that `If-Match` accepts the tag (section 13.1.1)."""
    return not etag.startswith("W/")


@dataclass(frozen=True, slots=True)
class StoredChecksum:
    """A checksum that the store itself computed over the whole object. `size` is in bytes, `crc32` is unsigned."""

    size: int
    crc32: int


@dataclass(slots=True)
class ReadOrigin:
    """Tells where the last chunk of a read through a cache came from."""

    is_cached: bool = False


@dataclass(frozen=True, slots=True)
class ObjectStream:
    """An open read. `served` is the range that is served, with both ends filled in; None for an empty object that is read whole. `chunks`
    yields at most `MAX_CHUNK_BYTES` at a time, never an empty chunk, and in total exactly `served`. A body that ends early raises.
    `windows`, where the file can be sent without a copy, yields the same bytes as windows of at most `WINDOW_BYTES`, or as chunks where
    they are in no file yet; a reader takes either. `origin` is that of each chunk in turn; None for a backend without a cache."""

    info: ObjectInfo
    served: ByteRange | None
    chunks: AsyncIterator[bytes]
    windows: AsyncIterator[bytes | FileWindow] | None = None
    origin: ReadOrigin | None = None


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """Bytes of a file system: `total`, `used`, and `free` for this process. `is_writable` is False where the file system is
    mounted read-only, or the folder's permissions forbid this process to create files."""

    total: int
    used: int
    free: int
    is_writable: bool = True


class ObjectWriter(Protocol):
    """Receives an object's bytes, in pieces of any size."""

    async def write(self, data: bytes | bytearray | memoryview, update_digest: UpdateDigest | None = None) -> None:
        """Returns when the store can take more (back-pressure). `data` may be reused afterwards. `update_digest` is called with `data` in
        a thread: where a thread writes, in that call of it."""
        ...

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        ...


class StorageBackend(Protocol):
    """`tests/storage/conformance.py` asserts what holds for every backend. Methods raise only `StorageError`s and `CancelledError`."""

    @property
    def name(self) -> str:
        """`local` or `s3`: for errors, logs and metrics."""
        ...

    @property
    def resumable_writes(self) -> ResumableWrites: ...

    async def exists(self, key: Key) -> bool: ...

    async def head(self, key: Key) -> ObjectInfo:
        """Raises `ObjectNotFound`."""
        ...

    async def stored_checksum(self, key: Key) -> StoredChecksum | None:
        """None where the store keeps no checksum, or only a composite checksum of the parts. Raises `ObjectNotFound`."""
        ...

    def read_stream(
        self, key: Key, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """On entry, before the first byte, raises `ObjectNotFound`, `RangeNotSatisfiable` or `ObjectChanged`. Iterating raises
        `ObjectChanged`, `ObjectNotFound` or `StorageUnavailable`."""
        ...

    def read_from_memory(self, key: Key, byte_range: ByteRange, size: int) -> bytes | None:
        """Reads exactly `byte_range` of an object of `size` bytes, without blocking. None where the read would block, where the
        object differs from what is expected, and where the store cannot tell: the caller then uses `read_stream`."""
        ...

    def write_stream(
        self,
        key: Key,
        *,
        size: int | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        skip_exists_check: bool = False,
    ) -> AbstractAsyncContextManager[ObjectWriter]:
        """Writes one object. A clean exit commits; an exception or a cancellation aborts and leaves nothing that readers see.

        Raises `ObjectExists` where the key is taken (on entry or at the commit), `StorageFull`, … `size` is the number of bytes that
        will be written, if known: a different number fails the commit. `skip_exists_check`: the caller knows from a listing that the
        key is free, and neither above nor below another object, which saves S3 a request before each write. S3's conditional
        write guards the key in any case.
        """
        ...

    async def put_object(self, key: Key, data: bytes, metadata: Mapping[str, str] | None = None) -> None:
        """Write a small object at once. The only call that replaces an existing object (for markers)."""
        ...

    async def copy_object(self, source: Key, target: Key) -> None:
        """Raises `ObjectNotFound`, or `ObjectExists` where the target is taken."""
        ...

    async def move_object(self, source: Key, target: Key) -> None:
        """Copy, then delete the source."""
        ...

    async def delete_object(self, key: Key) -> None:
        """Idempotent: a missing object is no error."""
        ...

    async def delete_objects(self, keys: Iterable[Key]) -> Mapping[Key, StorageError]:
        """Delete many objects; returns the keys that could not be deleted, with their errors. A missing object is no error."""
        ...

    def list_objects(self, prefix: str = "", start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Objects below `prefix` by whole segments (`a` lists `a/b`, not `ab`), in the store's own order. `start_after` is a key that
        this listing gave; only objects after it are listed. Temporary files of unfinished writes are not objects. Raises
        `ListingIncomplete` after the last object, where some folders could not be listed."""
        ...

    async def ensure_prefix(self, prefix: str) -> None:
        """Make the folder; nothing to do on S3."""
        ...

    async def prune_folders(self) -> int:
        """Remove empty folders, but not those right below the root; returns how many. Only while nobody writes: a writer that is
        about to use such a folder would fail. Nothing to do on S3."""
        ...

    async def probe(self) -> None:
        """Write, read back and delete a small object below the prefix; raises the first error."""
        ...

    async def check_marker(self, marker: Key, text: bytes) -> None:
        """Checks that the media location is the expected one: the small object `marker` holds `text`, white space around it
        ignored. Raises `ObjectNotFound`; `ObjectChanged` where it holds another text; `StorageUnavailable`, `StoragePermission`, …
        where the marker cannot be read. On a local disk, later commits and deletes are refused where the folder or the marker is no
        longer the same file (device and inode)."""
        ...

    async def disk_space(self, prefix: str) -> DiskSpace | None:
        """The space of the file system that holds the folder `prefix`; None on S3. Raises `ObjectNotFound`, …"""
        ...

    async def sweep_leftovers(self, older_than: timedelta, find_in_use: FindKeysInUse | None = None) -> int:
        """Remove temporary files, multipart uploads and tails that writes of dead processes, and ended resumable writes, left; returns
        how many. Without `find_in_use` no resumable write counts as in use. It is asked after the leftovers were found."""
        ...

    def local_path(self, key: Key) -> Path | None:
        """The path of the object's file; None on S3."""
        ...

    async def presigned_url(
        self, key: Key, *, expires_in: timedelta, content_type: str | None = None, disposition: str | None = None
    ) -> str | None:
        """A URL that downloads the object directly (GET); None where the store has no such URLs."""
        ...

    async def aclose(self) -> None: ...


def marker_matches(content: bytes, text: bytes) -> bool:
    """Whether a marker that begins with `content` holds `text`. White space around the text, which editors add, is ignored, if it is
    shorter than `MARKER_SLACK_BYTES`."""
    return len(content) < len(text) + MARKER_SLACK_BYTES and content.strip() == text.strip()
