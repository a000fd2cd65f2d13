"""The errors that refuse an upload. Errors of catalogue and storage are passed on unchanged.

The texts are for the user who uploads; a table of the API maps the types to statuses.
"""

from __future__ import annotations


class UploadError(Exception):
    """Base class. Nothing of a refused upload is kept."""


class MalformedBody(UploadError):
    """The body is no valid multipart/form-data, or has more parts or headers than allowed (400)."""


class IncompleteBody(UploadError):
    """The body ended before its final boundary, or before its Content-Length (400)."""

    def __init__(self, detail: str = "The body ended before it was complete") -> None:
        super().__init__(detail)


class ClientDisconnected(IncompleteBody):
    """The client closed the connection in the middle of the body; nobody receives the response (400)."""

    def __init__(self) -> None:
        super().__init__("The client closed the connection")


class UploadTooSlow(UploadError):
    """The client sent nothing for too long, or too few bytes per second (408)."""


class UploadTooLarge(UploadError):
    """More than `limit` bytes (413)."""

    def __init__(self, limit: int, subject: str = "The upload") -> None:
        self.limit = limit
        super().__init__(f"{subject} is larger than {limit} bytes")


class InvalidField(UploadError):
    """A field is missing or has a value that cannot be used (400)."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        super().__init__(f"{field} {reason}")


class UnsupportedType(UploadError):
    """The extension of the file name is not in the table of formats (400)."""

    def __init__(self, extension: str) -> None:
        self.extension = extension
        super().__init__(f"Unsupported file type {extension or '(no extension)'}")


class EmptyFile(UploadError):
    """The file has no bytes, as after a failed transfer: all empty files would count as duplicates of one another (400)."""

    def __init__(self) -> None:
        super().__init__("The file is empty")


class InvalidChecksum(UploadError):
    """The checksum header is no SHA-1 in base64 or hex (400)."""

    def __init__(self) -> None:
        super().__init__("x-immich-checksum is no SHA-1 in base64 (28 characters) or hex (40)")


class ChecksumMismatch(UploadError):
    """The SHA-1 of the received file differs from the checksum header (400)."""

    def __init__(self) -> None:
        super().__init__("The file does not match x-immich-checksum")


class LeaseLost(UploadError):
    """A lease expired because it was not renewed in time, and the sweeper took the files; a retry may succeed (503)."""

    def __init__(self) -> None:
        super().__init__("The upload was given up; send it again")
