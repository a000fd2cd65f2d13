"""Why an upload was refused, as types. What the catalogue and storage raise passes through unchanged.

The texts are for the person who uploads; the API's table turns the types into statuses.
"""

from __future__ import annotations


class UploadError(Exception):
    """Base of all refusals. Nothing of a refused upload is kept."""


class MalformedBody(UploadError):
    """The body is no multipart/form-data that can be read, or holds more parts or headers than allowed (400)."""


class IncompleteBody(UploadError):
    """The body ended before its final boundary, or before its Content-Length (400)."""

    def __init__(self, detail: str = "The body ended before it was complete") -> None:
        super().__init__(detail)


class ClientDisconnected(IncompleteBody):
    """The client closed the connection in the middle of the body; nobody is left to be answered (400)."""

    def __init__(self) -> None:
        super().__init__("The client closed the connection")


class UploadTooSlow(UploadError):
    """The client sent nothing, or too little, for too long (408)."""


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
    """The part's name has an extension that is not in the table of formats (400)."""

    def __init__(self, extension: str) -> None:
        self.extension = extension
        super().__init__(f"Unsupported file type {extension or '(no extension)'}")


class EmptyFile(UploadError):
    """The file has no bytes, as a transfer that failed leaves it: all such would be one content (400)."""

    def __init__(self) -> None:
        super().__init__("The file is empty")


class InvalidChecksum(UploadError):
    """The checksum header is no SHA-1 in base64 or hex (400)."""

    def __init__(self) -> None:
        super().__init__("x-immich-checksum is no SHA-1 in base64 (28 characters) or hex (40)")


class ChecksumMismatch(UploadError):
    """The bytes that arrived are not those that the checksum header announced (400)."""

    def __init__(self) -> None:
        super().__init__("The file does not match x-immich-checksum")


class LeaseLost(UploadError):
    """The upload took so long between two renewals that its files were given to the sweeper; sending it again may work (503)."""

    def __init__(self) -> None:
        super().__init__("The upload was given up; send it again")
