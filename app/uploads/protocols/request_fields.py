"""Reads header fields of a request: single ones, lists, whole numbers, digests. No I/O."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from app.uploads.protocols.errors import InvalidDigest, ProtocolViolation
from app.uploads.sessions.session_values import DigestAlgorithm

MAX_OFFSET = 2**63 - 1
"""The largest number that the catalogue holds."""

_DECIMAL = re.compile(r"[0-9]{1,19}")
DIGEST_BYTES = {DigestAlgorithm.SHA1: 20, DigestAlgorithm.SHA256: 32, DigestAlgorithm.SHA512: 64}


class RequestFields:
    """The header fields of one request, by names in lower case."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in raw:
            self._values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())

    def get(self, name: str) -> str | None:
        """The value of a field that is no list; None without it. Raises `ProtocolViolation` where it is sent twice."""
        values = self._values.get(name.lower())
        if values is None:
            return None
        if len(values) > 1:
            raise ProtocolViolation(f"{name} is sent more than once")
        return values[0]

    def get_list(self, name: str) -> str | None:
        """The value of a field that is a list or a dictionary, its lines joined (RFC 9110 section 5.3)."""
        values = self._values.get(name.lower())
        return None if values is None else ", ".join(values)

    def get_number(self, name: str) -> int | None:
        """A whole number of ASCII digits, at most `MAX_OFFSET`."""
        text = self.get(name)
        if text is None:
            return None
        if not _DECIMAL.fullmatch(text) or int(text) > MAX_OFFSET:
            raise ProtocolViolation(f"{name} is no whole number from 0 to {MAX_OFFSET}")
        return int(text)

    def require_number(self, name: str) -> int:
        value = self.get_number(name)
        if value is None:
            raise ProtocolViolation(f"{name} is required")
        return value

    @property
    def content_length(self) -> int | None:
        """The length of the body; None where only its end tells."""
        if self.get("Transfer-Encoding") is not None:
            return None
        return self.get_number("Content-Length") or 0

    @property
    def media_type(self) -> str:
        """The content type in lower case, without parameters."""
        return (self.get("Content-Type") or "").partition(";")[0].strip().lower()


def decode_digest(name: str, algorithm: DigestAlgorithm, text: str) -> bytes:
    """A digest in base64, of the algorithm's length. Raises `InvalidDigest`."""
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:
        value = b""
    if len(value) != DIGEST_BYTES[algorithm]:
        raise InvalidDigest(f"{name} is no {algorithm} in base64")
    return value
