"""What stops a delivery, as types that the API's error map turns into the one error shape. No I/O."""

from __future__ import annotations

RawHeaders = tuple[tuple[bytes, bytes], ...]


class DeliveryError(Exception):
    """Nothing has been sent yet. `headers` belong on the error's answer, beside those of the error shape."""

    def __init__(self, message: str, headers: RawHeaders) -> None:
        self.headers = headers
        super().__init__(message)


class PreconditionFailed(DeliveryError):
    """412: `If-Match` or `If-Unmodified-Since` does not hold."""

    def __init__(self, headers: RawHeaders) -> None:
        super().__init__("The file is not the one that the request's conditions name", headers)


class UnsatisfiableRange(DeliveryError):
    """416: no byte of the range is there; `size` in bytes, `headers` carry `Content-Range: bytes */<size>`."""

    def __init__(self, size: int, headers: RawHeaders) -> None:
        self.size = size
        super().__init__(
            f"The range lies past the end of {size} bytes", (*headers, (b"content-range", b"bytes */%d" % size))
        )


class TransferAborted(Exception):
    """The source failed (`__cause__`) after the first byte. No answer can follow: let the connection end short of its length,
    by raising this out of the application or by returning without another message."""

    def __init__(self, filename: str, sent_bytes: int, length: int) -> None:
        self.sent_bytes = sent_bytes
        self.length = length
        super().__init__(f"cut {filename!r} short after {sent_bytes} of {length} bytes")
