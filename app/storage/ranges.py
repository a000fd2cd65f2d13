"""`ByteRange`, `FileWindow` and `ByteSource`: the types that storage, delivery and archives share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `first` to `last`, both inclusive and counted from 0; `last=None` means to the end."""

    first: int
    last: int | None = None

    def __post_init__(self) -> None:
        if self.first < 0 or (self.last is not None and self.last < self.first):
            raise ValueError(f"no byte range: {self.first}-{self.last}")

    def clamp(self, size: int) -> ByteRange | None:
        """The part of the range that exists in an object of `size` bytes, with `last` filled in; None when the range starts at or past the
        end."""
        if self.first >= size:
            return None
        return ByteRange(self.first, size - 1 if self.last is None else min(self.last, size - 1))

    @property
    def length(self) -> int:
        """Number of bytes. Raises ValueError for a range without `last`."""
        if self.last is None:
            raise ValueError("an open range has no length")
        return self.last - self.first + 1


class SendableFile(Protocol):
    """An open file whose bytes the kernel can send without a copy in this process (sendfile(2))."""

    @property
    def key(self) -> str: ...

    @property
    def backend(self) -> str: ...

    def fileno(self) -> int: ...

    def is_cached(self, offset: int, count: int) -> bool:
        """Whether these bytes are in the page cache, so that sending them does not wait for the disk."""
        ...

    async def load(self, offset: int, count: int) -> None:
        """Read these bytes into the page cache, in a thread. Raises `ObjectChanged` where the file ends before them, and the errors of a
        read."""
        ...


@dataclass(frozen=True, slots=True)
class FileWindow:
    """`length` bytes of an open file from `offset`, in place of the bytes themselves. It is in the page cache when a source yields it, and
    may be used until the source's next window."""

    file: SendableFile
    offset: int
    length: int

    def __len__(self) -> int:
        return self.length


class ByteSource(Protocol):
    """Bytes that can be sent: a stored file, or an archive that is generated while it is sent."""

    @property
    def size(self) -> int:
        """Total number of bytes."""
        ...

    @property
    def etag(self) -> str:
        """The strong entity tag, with its quotes (RFC 9110 section 8.8.3)."""
        ...

    @property
    def last_modified(self) -> datetime:
        """Aware, UTC."""
        ...

    @property
    def content_type(self) -> str: ...

    @property
    def filename(self) -> str:
        """The name under which a browser saves the bytes; any text."""
        ...

    @property
    def accepts_ranges(self) -> bool:
        """False where the bytes can only be sent from start to end."""
        ...

    def read(self, byte_range: ByteRange | None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open the bytes of `byte_range` (None: all). Raises `StorageError`s on opening, before the first byte."""
        ...

    def read_windows(
        self, byte_range: ByteRange | None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes | FileWindow]]:
        """As `read`, with windows of local files in place of bytes where the file system allows it."""
        ...
