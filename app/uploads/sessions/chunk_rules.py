"""What a request may append to an upload, by its offset and lengths. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from app.catalog.schema.upload_records import Upload
from app.uploads.errors import UploadTooLarge
from app.uploads.sessions.errors import InconsistentLength, OffsetMismatch
from app.uploads.sessions.session_values import UploadChunk


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """`length`: of the whole upload, where it is known with this request. `end`: the offset that the body may not exceed."""

    length: int | None
    end: int

    def check(self, offset: int) -> None:
        """Raises where the body goes past the end."""
        if offset <= self.end:
            return
        if self.length is not None:
            raise InconsistentLength(self.length, offset)
        raise UploadTooLarge(self.end, "The file")

    def is_complete(self, chunk: UploadChunk, offset: int) -> bool:
        """Whether the upload ends at `offset`, where the whole body has arrived."""
        if chunk.is_last is None:
            return offset == self.length
        return chunk.is_last and self.length in (None, offset)

    def check_end(self, chunk: UploadChunk, offset: int) -> None:
        """Raises where the request says that the upload ends at `offset`, and its length says otherwise."""
        if chunk.is_last and self.length not in (None, offset):
            raise InconsistentLength(self.length, offset)


def plan_chunk(upload: Upload, chunk: UploadChunk, limit: int) -> ChunkPlan:
    """Raises `OffsetMismatch`, `InconsistentLength`, and `UploadTooLarge` for more than `limit` bytes."""
    if chunk.offset != upload.offset:
        raise OffsetMismatch(upload.offset, chunk.offset)
    end = None if chunk.content_length is None else chunk.offset + chunk.content_length
    told = [upload.length, chunk.length, end if chunk.is_last else None]
    known = [length for length in told if length is not None]
    if len(set(known)) > 1:
        raise InconsistentLength(known[0], known[-1])
    length = known[0] if known else None
    if length is not None and length < max(chunk.offset, end or 0):
        raise InconsistentLength(length, max(chunk.offset, end or 0))
    if max(length or 0, end or 0) > limit:
        raise UploadTooLarge(limit, "The file")
    return ChunkPlan(length, limit if length is None else length)


def repeats_last_chunk(upload: Upload, chunk: UploadChunk) -> bool:
    """Whether the request ends where the complete upload ends: its first answer may have been lost."""
    length = upload.offset
    end = chunk.offset + (chunk.content_length or 0)
    return chunk.is_last is not False and (chunk.offset == length or end == length)
