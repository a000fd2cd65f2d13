"""What a place for objects must do: the protocol that local disk and S3 fulfil alike.

Users of storage hold the `StorageService`; this is the thin side that backends implement. What one
backend can and another can not shows as a returned `None`, never as a type check by the caller. The
guarantees are the tests in `tests/storage/conformance.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from app.storage.errors import StorageError
from app.storage.key import Key
from app.storage.ranges import ByteRange

CHUNK_BYTES = 256 * 1024
"""What a read yields at a time, and so what a stalled reader costs."""

MAX_CHUNK_BYTES = 1024 * 1024
"""The most that a read yields, and a good size for `ObjectWriter.write`."""

MARKER_SLACK_BYTES = 64
"""How much more of a witness is read than it should hold (see `marker_matches`)."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """`key` is the key's text (for external files: the path), `size` in bytes, `last_modified` aware
    UTC, `etag` opaque: equal means the same bytes, and it is what `if_match` takes."""

    key: str
    size: int
    last_modified: datetime
    etag: str


@dataclass(frozen=True, slots=True)
class StoredChecksum:
    """What a store computed itself over the whole object: `size` in bytes, `crc32` as an unsigned number."""

    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class ObjectStream:
    """An open read. `served` is the range actually served, both ends filled in; None when there are no bytes
    (an empty object read whole). `chunks` are at most `MAX_CHUNK_BYTES` each, never empty, together exactly `served`:
    a body that ends early raises instead of ending."""

    info: ObjectInfo
    served: ByteRange | None
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """Bytes of a file system: all of them, those in use, and those that this process may still take. `is_writable` is False where it is
    mounted read-only, or the folder's permissions forbid this process to make files there."""

    total: int
    used: int
    free: int
    is_writable: bool = True


class ObjectWriter(Protocol):
    """Takes an object's bytes, in pieces of any size."""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Returns when the store can take more (back-pressure). `data` may be reused afterwards."""
        ...

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        ...


class StorageBackend(Protocol):
    """See DESIGN 4.1. All methods raise only `StorageError`s (and cancellation)."""

    @property
    def name(self) -> str:
        """`local` or `s3`: for errors, logs and metrics."""
        ...

    async def exists(self, key: Key) -> bool: ...

    async def head(self, key: Key) -> ObjectInfo:
        """Raises `ObjectNotFound`."""
        ...

    async def stored_checksum(self, key: Key) -> StoredChecksum | None:
        """None where the store keeps none, or only one of parts. Raises `ObjectNotFound`."""
        ...

    def read_stream(
        self, key: Key, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """On entry raises `ObjectNotFound`, `RangeNotSatisfiable` or `ObjectChanged` before any byte; while
        iterating `ObjectChanged`, `ObjectNotFound` or `StorageUnavailable`."""
        ...

    def read_from_memory(self, key: Key, byte_range: ByteRange, size: int) -> bytes | None:
        """Exactly `byte_range` of an object of `size` bytes, where that takes no waiting at all; None where it would, where the
        object is not as expected, and where a store cannot tell: then `read_stream` is to be asked."""
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
        """A clean exit commits; an exception or a cancellation aborts and leaves nothing that readers see.

        Raises `ObjectExists` where the key is taken (on entry or at the commit), `StorageFull`, … `size` in bytes is
        what will be written, if known: a different number of bytes fails the commit. `skip_exists_check`: the caller knows from a listing that
        the key is not taken, nor nested, so that a store in the network need not be asked before each write; its conditional
        writes guard the key all the same.
        """
        ...

    async def put_object(self, key: Key, data: bytes, metadata: Mapping[str, str] | None = None) -> None:
        """Write small bytes in one go. The only call that replaces an existing object (for markers)."""
        ...

    async def copy_object(self, source: Key, target: Key) -> None:
        """Raises `ObjectNotFound`, or `ObjectExists` where the target is taken."""
        ...

    async def move_object(self, source: Key, target: Key) -> None:
        """Copy, then delete the source."""
        ...

    async def delete_object(self, key: Key) -> None:
        """Deleting what is not there is fine."""
        ...

    async def delete_objects(self, keys: Iterable[Key]) -> Mapping[Key, StorageError]:
        """Delete many; returns those that failed, with why. Deleting what is not there is fine."""
        ...

    def list_objects(self, prefix: str = "", start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Objects below `prefix` by whole segments (`a` lists `a/b`, not `ab`), in the store's own order; those after
        `start_after` (a key that this listing gave) in that order. Temporary files of unfinished writes are not objects. Raises
        `ListingIncomplete` at the end of all that could be listed, where that is not all."""
        ...

    async def ensure_prefix(self, prefix: str) -> None:
        """Make the folder; nothing to do on S3."""
        ...

    async def prune_folders(self) -> int:
        """Remove empty folders below the media folder's own; how many there were. While nobody writes: a writer that is about to use
        one would fail. Nothing to do on S3."""
        ...

    async def probe(self) -> None:
        """Write, read back and delete a small object below the prefix; raises what went wrong."""
        ...

    async def check_marker(self, marker: Key, text: bytes) -> None:
        """Whether this is the place it is thought to be: the small object `marker` holds `text` (white space around it does not
        count). Raises `ObjectNotFound`; `ObjectChanged` where it holds another; `StorageUnavailable`, `StoragePermission`, … where it
        can not be told. Where the place is a mounted disk, commits are held to what was recognised."""
        ...

    async def disk_space(self, prefix: str) -> DiskSpace | None:
        """Of the file system that holds the folder; None where there is no such thing. Raises `ObjectNotFound`, …"""
        ...

    async def sweep_leftovers(self, older_than: timedelta) -> int:
        """Remove what unfinished writes of dead processes left (temporary files, multipart uploads) and return how many."""
        ...

    def local_path(self, key: Key) -> Path | None:
        """The file that may be opened directly, where there is one."""
        ...

    async def presigned_url(
        self, key: Key, *, expires_in: timedelta, content_type: str | None = None, disposition: str | None = None
    ) -> str | None:
        """A link that downloads the object directly (GET), where the store has such."""
        ...

    async def aclose(self) -> None: ...


def marker_matches(found: bytes, text: bytes) -> bool:
    """Whether a witness whose first bytes are `found` holds `text`, but for less white space than `MARKER_SLACK_BYTES` that people added."""
    return len(found) < len(text) + MARKER_SLACK_BYTES and found.strip() == text.strip()
