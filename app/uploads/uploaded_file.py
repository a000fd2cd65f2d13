"""One file of an upload whose bytes have been written but not committed, and the limits on its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from app.catalog.errors import QuotaExceeded
from app.catalog.schema.records import StoredFile
from app.formats import MediaFormat, MediaKind, find_format
from app.uploads.errors import UnsupportedType, UploadTooLarge
from app.uploads.file_names import build_display_name, extract_extension
from app.uploads.file_receiver import ReceivedFile


def find_named_format(name: str) -> MediaFormat:
    """The type that the file name tells. Raises `UnsupportedType`, also for a sidecar."""
    format_ = find_format(name)
    if format_ is None or format_.kind is MediaKind.SIDECAR:
        raise UnsupportedType(extract_extension(name))
    return format_


@dataclass(frozen=True, slots=True)
class QuotaCheck:
    """The user's quota, and the bytes that were used and reserved when the upload began. An early check, to save the transfer: the insert decides."""

    quota: int
    used: int

    def check(self, size: int) -> None:
        if self.used + size > self.quota:
            raise QuotaExceeded(self.quota, self.used, size)


@dataclass(frozen=True, slots=True)
class SizeLimits:
    limit: int
    quota: QuotaCheck | None

    def __call__(self, size: int, /) -> None:
        if size > self.limit:
            raise UploadTooLarge(self.limit, "The file")
        if self.quota is not None:
            self.quota.check(size)


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file whose bytes have been written, but not committed yet, or are held in memory as `pieces`. `named_format` by its name, `format` by
    its content."""

    file_id: UUID
    name: str
    named_format: MediaFormat
    format: MediaFormat
    received: ReceivedFile
    pieces: Sequence[bytes | memoryview] = ()

    def choose_display_name(self, wanted: str | None) -> str:
        """`wanted`, or the part's own file name. Where the extension of `wanted` denotes another type than the file has, or none, the file's
        extension is appended."""
        if wanted is None:
            return self.name
        wanted_format = find_format(wanted)
        same_type = (
            wanted_format is not None
            and wanted_format.kind in (self.format.kind, self.named_format.kind)
            and wanted_format.is_scriptable is self.format.is_scriptable
        )
        return wanted if same_type else build_display_name(wanted + self.format.extension)

    def to_stored_file(self) -> StoredFile:
        return StoredFile(self.file_id, self.received.size, self.received.sha1, self.received.crc32)
