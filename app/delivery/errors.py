"""Exceptions of delivery; `app.api.errors` maps them to HTTP error responses."""

from __future__ import annotations

RawHeaders = tuple[tuple[bytes, bytes], ...]


class DeliveryError(Exception):
    """Raised before anything was sent. `headers` must be on the error response, in addition to its own."""

    def __init__(self, message: str, headers: RawHeaders) -> None:
        self.headers = headers
        super().__init__(message)


class PreconditionFailed(DeliveryError):
    """412: `If-Match` or `If-Unmodified-Since` is not fulfilled."""

    def __init__(self, headers: RawHeaders) -> None:
        super().__init__("The file is not the one that the request's conditions name", headers)


class UnsatisfiableRange(DeliveryError):
    """416: no requested range overlaps the file of `size` bytes. `headers` include `Content-Range: bytes */<size>`."""

    def __init__(self, size: int, headers: RawHeaders) -> None:
        self.size = size
        super().__init__(
            f"The range lies past the end of {size} bytes", (*headers, (b"content-range", b"bytes */%d" % size))
        )


class TransferAborted(Exception):
    """The source failed (`__cause__`) after the response had started, so no error response can follow.

    The application must end the connection short of `length` bytes: by raising this exception or by returning without another message.
    """

    def __init__(self, filename: str, sent_bytes: int, length: int) -> None:
        self.sent_bytes = sent_bytes
        self.length = length
        super().__init__(f"cut {filename!r} short after {sent_bytes} of {length} bytes")
