"""`Key`: the validated name of an object below the media location. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.storage.errors import InvalidKey

MAX_KEY_BYTES = 1024
"""S3's limit, in bytes of UTF-8, for prefix and key together."""
MAX_SEGMENT_BYTES = 200

TEMPORARY_PREFIX = ".mediavault-"
TEMPORARY_SUFFIX = ".tmp"
_TEMPORARY = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}.*{re.escape(TEMPORARY_SUFFIX)}", re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A valid key: `/`-separated, relative, at most 1,024 bytes of UTF-8, at most 200 per segment.

    No empty, `.` or `..` segment, no back-slash, no control character, and no segment that is
    reserved for temporary files. Text is not normalized: NFC and NFD names are different keys.
    Raises `InvalidKey`.
    """

    value: str

    def __post_init__(self) -> None:
        reason = _invalid_reason(self.value)
        if reason:
            raise InvalidKey(self.value, "key", reason)

    def __str__(self) -> str:
        return self.value

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.value.split("/"))

    def is_below(self, prefix: str) -> bool:
        """True when the key lies below `prefix`, by whole segments: `a` holds `a/b` but not `ab`."""
        return not prefix or self.value.startswith(prefix.rstrip("/") + "/")


def is_temporary(segment: str) -> bool:
    """True for the names of temporary files of local writes. They are reserved: no key contains one."""
    return _TEMPORARY.fullmatch(segment) is not None


def _invalid_reason(value: str) -> str | None:
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        return "not valid UTF-8"
    if size > MAX_KEY_BYTES:
        return f"longer than {MAX_KEY_BYTES} bytes"
    if "\\" in value:
        return "holds a back-slash"
    if _CONTROL.search(value):
        return "holds a control character"
    for segment in value.split("/"):
        if segment in ("", ".", ".."):
            return f"has the segment {segment!r}"
        if size > MAX_SEGMENT_BYTES and len(segment.encode("utf-8")) > MAX_SEGMENT_BYTES:
            return f"has a segment longer than {MAX_SEGMENT_BYTES} bytes"
        if segment[0] == "." and is_temporary(segment):
            return f"the name {segment!r} is reserved for temporary files"
    return None
