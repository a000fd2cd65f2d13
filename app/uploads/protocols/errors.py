"""The errors of a request that breaks the rules of an upload protocol, and `Refusal`, the form in which a protocol answers any error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.uploads.errors import UploadError

ABOUT_BLANK = "about:blank"


class ProtocolViolation(UploadError):
    """A header field is missing or has a value that cannot be used (400)."""


class UnsupportedVersion(ProtocolViolation):
    """The client speaks a version of the protocol that is not served (412)."""


class UnsupportedContentType(ProtocolViolation):
    """The body has another content type than the protocol asks for (415)."""


class FieldTooLarge(ProtocolViolation):
    """A header field is longer than allowed (431)."""


class InvalidDigest(ProtocolViolation):
    """A digest field can not be read (400)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """`problem_type` and `members` are those of the problem details (RFC 9457)."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    problem_type: str = ABOUT_BLANK
    members: Mapping[str, int] = field(default_factory=dict)
