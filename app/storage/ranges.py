"""Byte ranges and byte sources: the values that storage, delivery and archives share."""

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
        """The part that an object of `size` bytes has, with `last` filled in; None when it starts at or past the end."""
        if self.first >= size:
            return None
        return ByteRange(self.first, size - 1 if self.last is None else min(self.last, size - 1))

    @property
    def length(self) -> int:
        """The number of bytes; only for a range with an end."""
        if self.last is None:
            raise ValueError("an open range has no length")
        return self.last - self.first + 1


class ByteSource(Protocol):
    """Bytes that can be sent: a stored file, or an archive that is made on the way."""

    @property
    def size(self) -> int:
        """Bytes in all."""
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
        """The name a browser saves it under; any text."""
        ...

    @property
    def accepts_ranges(self) -> bool:
        """False where the bytes can only be sent from the start to the end."""
        ...

    def read(self, byte_range: ByteRange | None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open the bytes of `byte_range` (None: all). Failures on opening are storage errors, before the first byte."""
        ...
