"""The state of a resumable write to S3, and its text. Pure; no I/O.

All parts but the last have `part_size` bytes; the durable bytes after the last full part lie in one tail object. Part numbers only
ascend: each append first reserves numbers, and uses no others. So a part that an older append sends late replaces none of a newer one.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from dataclasses import asdict, dataclass

from app.storage.key import TEMPORARY_PREFIX, TEMPORARY_SUFFIX
from app.storage.resumable import ResumableWriteState
from app.storage.s3.protocol.responses import UploadedPart

TAILS_FOLDER = f"{TEMPORARY_PREFIX}tails{TEMPORARY_SUFFIX}"
"""Holds the tails of all unfinished writes. Its name is reserved for temporary files, so listings of objects leave it out."""

_MD5_ETAG = re.compile('"([0-9a-f]{32})"')


@dataclass(frozen=True, slots=True)
class TailObject:
    """Durable bytes that fill no part yet. `token` is the last segment of the object's key; `size` in bytes."""

    token: str
    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class S3WriteState:
    """`reserved` is the highest part number that any append so far may have used."""

    offset: int
    part_size: int
    write_id: str
    content_type: str | None
    upload_id: str | None = None
    reserved: int = 0
    tail: TailObject | None = None
    parts: tuple[UploadedPart, ...] = ()

    def to_saved(self) -> ResumableWriteState:
        fields = asdict(self) | {"parts": [_encode_part(part) for part in self.parts]}
        return ResumableWriteState(json.dumps(fields, separators=(",", ":")))


def parse_state(state: ResumableWriteState) -> S3WriteState:
    fields = json.loads(state.value)
    tail = fields.pop("tail")
    parts = fields.pop("parts")
    return S3WriteState(
        **fields, tail=None if tail is None else TailObject(**tail), parts=tuple(_decode_part(text) for text in parts)
    )


def make_tail_token() -> str:
    """A new token: no tail's key is used twice."""
    return secrets.token_hex(8)


def tails_prefix(key: str) -> str:
    """What the keys of all tails of the key's write begin with."""
    return f"{TAILS_FOLDER}/{key}/"


def tail_key(key: str, token: str) -> str:
    return f"{tails_prefix(key)}{token}"


def find_tail_owner(key: str) -> str | None:
    """The key of the write that a tail belongs to; None for the key of another object."""
    folder, _, rest = key.partition("/")
    owner = rest.rpartition("/")[0]
    return owner if folder == TAILS_FOLDER and owner else None


def _encode_part(part: UploadedPart) -> str:
    """Number, CRC-32 and ETag. An MD5, the ETag of most stores, is written in 22 letters."""
    match = _MD5_ETAG.fullmatch(part.etag)
    etag = f"={part.etag}" if match is None else base64.b64encode(bytes.fromhex(match[1])).decode().rstrip("=")
    return f"{part.number} {part.crc32 or '-'} {etag}"


def _decode_part(text: str) -> UploadedPart:
    number, crc32, etag = text.split(" ", 2)
    etag = etag[1:] if etag.startswith("=") else f'"{base64.b64decode(etag + "==").hex()}"'
    return UploadedPart(int(number), etag, None if crc32 == "-" else crc32)
