"""Parses the store's responses into typed values. Pure: no I/O.

Stores differ in the fields that they send. A missing ETag is replaced by a weak one made of size and date (RFC 9110 section 8.8.1): it tells
versions apart, and is never sent to the store. A response without a required field raises `S3RequestRefused`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar
from urllib.parse import unquote_plus

from app.storage.s3.protocol.errors import BACKEND, S3RequestRefused
from app.storage.s3.protocol.upload_body import parse_whole_crc32

T = TypeVar("T")

UNVERSIONED_ETAG = 'W/""'
"""The ETag of an object for which the store sends neither ETag nor date: its versions cannot be told apart."""

UNKNOWN_DATE = datetime(1970, 1, 1, tzinfo=UTC)
"""The date of an object for which the store sends none."""


@dataclass(frozen=True, slots=True)
class HeadResult:
    """The response to a HEAD; `size` in bytes."""

    size: int
    etag: str
    last_modified: datetime
    content_type: str | None
    metadata: Mapping[str, str]
    crc32: int | None
    """Computed by the store over the whole object; None where it keeps none, or none was requested."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One object of a listing; `key` is without the prefix."""

    key: str
    size: int
    etag: str
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """A multipart upload that was neither completed nor aborted; `started_at` is None where the store does not say. `keys` are the possible
    keys: decoded, and as listed."""

    keys: tuple[str, ...]
    upload_id: str
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class ListingPage(Generic[T]):
    """One page of a listing. `next_marker` requests the next page: None at the end, `("",)` where more objects follow and the store sends no
    token. `has_ambiguous_keys`: some keys would change when decoded."""

    items: Sequence[T]
    next_marker: tuple[str, ...] | None
    has_ambiguous_keys: bool = False


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """A part that the store has accepted; `etag` exactly as the store sent it."""

    number: int
    etag: str
    crc32: str | None


@dataclass(frozen=True, slots=True)
class BatchDeleteResult:
    """The response to DeleteObjects: deleted keys, and error codes by key ('' as key: the store does not say which)."""

    deleted: frozenset[str]
    failed: Mapping[str, str]


@lru_cache(1024)
def parse_http_date(text: str | None) -> datetime | None:
    """Parses the date of an HTTP header; without a zone, or with `-0000`, it is UTC (RFC 9110 section 5.6.7). None where it is no date."""
    try:
        date = parsedate_to_datetime(text or "")
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def make_etag(etag: str | None, last_modified: datetime | None, size: int) -> str:
    """The ETag with quotes; a weak one of size and date where the store sent none, `UNVERSIONED_ETAG` where it sent no date either."""
    if etag := (etag or "").strip():
        return etag if etag.endswith('"') else f'"{etag}"'
    if last_modified is None:
        return UNVERSIONED_ETAG
    return f'W/"{size:x}-{int(last_modified.timestamp()):x}"'


def parse_head(answer: Mapping[str, Any], size: int) -> HeadResult:
    """`size` is a separate argument, because some stores do not send it in a HEAD."""
    modified = answer.get("LastModified")
    return HeadResult(
        size=size,
        etag=make_etag(answer.get("ETag"), modified, size),
        last_modified=modified or UNKNOWN_DATE,
        content_type=answer.get("ContentType"),
        metadata=answer.get("Metadata", {}),
        crc32=parse_whole_crc32(answer.get("ChecksumCRC32"), answer.get("ChecksumType")),
    )


def require_field(answer: Mapping[str, Any], name: str, key: str, operation: str) -> Any:
    """The value of a required field. Raises `S3RequestRefused` where it is missing."""
    value = answer.get(name)
    if value is None or value == "":
        raise S3RequestRefused(key, BACKEND, f"{operation}: an answer without {name}")
    return value


def parse_part(answer: Mapping[str, Any], number: int, crc32: str | None, key: str, operation: str) -> UploadedPart:
    return UploadedPart(
        number, str(require_field(answer, "ETag", key, operation)), crc32 or answer.get("ChecksumCRC32")
    )


def parse_batch_delete(answer: Mapping[str, Any]) -> BatchDeleteResult:
    return BatchDeleteResult(
        frozenset(entry.get("Key", "") for entry in answer.get("Deleted", ())),
        {entry.get("Key", ""): entry.get("Code", "") for entry in answer.get("Errors", ())},
    )


def parse_listing(
    answer: Mapping[str, Any], prefix: str, requested_prefix: str, decode_key: Callable[[str], str]
) -> list[ListedObject]:
    """Objects whose full key starts with `prefix` + `requested_prefix`, without `prefix`. Raises `S3RequestRefused` where the
    listing has any other key."""
    items: list[ListedObject] = []
    for item in answer.get("Contents", ()):
        name = decode_key(str(require_field(item, "Key", requested_prefix, "list_objects_v2")))
        if not name.startswith(prefix + requested_prefix):
            raise S3RequestRefused(
                requested_prefix, BACKEND, "list_objects_v2: a key outside of the prefix that was asked for"
            )
        size, modified = item.get("Size"), item.get("LastModified")
        if size is None:
            raise S3RequestRefused(requested_prefix, BACKEND, "list_objects_v2: an object without size")
        etag = make_etag(item.get("ETag"), modified, size)
        items.append(ListedObject(name[len(prefix) :], size, etag, modified or UNKNOWN_DATE))
    return items


def parse_unfinished_uploads(answer: Mapping[str, Any], prefix: str) -> ListingPage[UnfinishedUpload]:
    """Multipart uploads below `prefix`. The SDK does not decode these keys. Some stores ignore the requested encoding, and SeaweedFS
    declares an encoding that it does not apply."""
    encoded = answer.get("EncodingType") == "url"
    items: list[UnfinishedUpload] = []
    for item in answer.get("Uploads", ()):
        name, upload_id = item.get("Key", ""), item.get("UploadId", "")
        names = dict.fromkeys((unquote_plus(name), name) if encoded else (name,))
        keys = tuple(each[len(prefix) :] for each in names if each.startswith(prefix))
        if keys and upload_id:
            items.append(UnfinishedUpload(keys, upload_id, item.get("Initiated")))
    marker, upload_marker = answer.get("NextKeyMarker", ""), answer.get("NextUploadIdMarker", "")
    if not answer.get("IsTruncated") or not marker:
        return ListingPage(items, None)
    return ListingPage(items, (unquote_plus(marker) if encoded else marker, upload_marker))
