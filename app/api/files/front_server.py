"""`FrontServer`: has the reverse proxy send stored files (`MEDIAVAULT_OFFLOAD`): the answer names the file, or a signed link to it.

Only a request that comes over a trusted proxy, with the secret that the proxy adds, gets such an answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from hmac import compare_digest
from urllib.parse import quote, urlsplit

from starlette.types import Scope

from app.api.request_context import FROM_TRUSTED_PROXY
from app.api.ttl_cache import TTLCache
from app.config import OffloadMode, S3Delivery, Settings, StorageEngine
from app.delivery.errors import RawHeaders
from app.delivery.offload import FIELD_PREFIX, OffloadablePart, rename_carried_over
from app.delivery.response import FrontServerHead, Representation, encode_header_lines
from app.delivery.stored_source import StoredSource
from app.metrics.families import FRONT_SERVER, SENT_BYTES
from app.metrics.instruments import ProcessMetrics
from app.storage.errors import StorageError
from app.storage.path import is_s3_uri
from app.storage.ranges import ByteRange
from app.storage.service import StorageService

SECRET_FIELD = b"x-offload-secret"
LOCAL_LOCATION = "/mediavault-offload/local/"
STORE_LOCATION = b"/mediavault-offload/store"
"""The front server's internal locations of files on the local disk, by key, and of signed links."""
TARGET_FIELD = FIELD_PREFIX + b"target"
MATCH_FIELD = FIELD_PREFIX + b"if-match"

LINK_LIFETIME = timedelta(seconds=60)
LINK_REUSE_SECONDS = 30.0
MAX_LINKS = 8192
_PATH_CACHE_SIZE = 4096


class FrontServer:
    """One per process."""

    def __init__(
        self, settings: Settings, storage: StorageService, secret: str, metrics: ProcessMetrics | None = None
    ) -> None:
        self._uses_x_accel = settings.offload is OffloadMode.X_ACCEL
        # By the cache on a local disk, which is nearer than the store, or by the store itself.
        is_sent_otherwise = settings.cache_folder is not None or settings.s3_delivery is S3Delivery.REDIRECT
        self._sends_from_store = self._uses_x_accel and not is_sent_otherwise
        self._minimum = settings.offload_minimum
        self._secret = secret.encode("ascii")
        self._storage = storage
        self._store_fields: TTLCache[str, RawHeaders] = TTLCache(MAX_LINKS, LINK_REUSE_SECONDS)
        self._local_paths = None if (local := storage.find_location(StorageEngine.LOCAL)) is None else local.paths
        self._name_local_file = lru_cache(_PATH_CACHE_SIZE)(self._build_local_field)
        self._sent = None if metrics is None else metrics.counter(SENT_BYTES).series.find((FRONT_SERVER,))

    @classmethod
    def create(
        cls, settings: Settings, storage: StorageService, metrics: ProcessMetrics | None = None
    ) -> FrontServer | None:
        """None if this service sends everything itself."""
        secret = settings.offload_secret
        if settings.offload is OffloadMode.OFF or secret is None:
            return None
        return cls(settings, storage, secret.get_secret_value(), metrics)

    async def build_answer(
        self, scope: Scope, representation: Representation, source: StoredSource
    ) -> RawHeaders | None:
        """The header fields of an answer without a body, whose body the front server adds; None if this service has to send it.

        A file that is missing or has another size is left to this service, which reports it."""
        part = self._select_part(scope, representation)
        if part is None:
            return None
        try:
            location = await self._find_location(source, part)
        except StorageError:
            return None
        if location is None:
            return None
        self._count(part)
        return self._complete(location, representation, with_accept_ranges=part.is_partial or is_s3_uri(source.path))

    def answer_from_memory(self, scope: Scope, representation: Representation, source: StoredSource) -> bytes | None:
        """The head of `build_answer` if nothing has to be waited for: a link is known, or the beginning of the bytes is in memory."""
        part = self._select_part(scope, representation)
        if part is None:
            return None
        if is_s3_uri(source.path):
            location = self._store_fields.peek(source.path)
        else:
            first = _first_byte(part)
            is_readable = self._storage.read_from_memory(source.path, first, source.size) is not None
            location = self._name_local_file(source.path) if is_readable else None
        if location is None:
            return None
        self._count(part)
        with_accept_ranges = part.is_partial or is_s3_uri(source.path)
        known = representation.front_server_head
        if known is None or known.location is not location or known.with_accept_ranges != with_accept_ranges:
            headers = self._complete(location, representation, with_accept_ranges=with_accept_ranges)
            encoded = b"HTTP/1.1 200 OK\r\n" + encode_header_lines(headers)
            known = representation.front_server_head = FrontServerHead(location, with_accept_ranges, encoded)
        return known.encoded

    def _select_part(self, scope: Scope, representation: Representation) -> OffloadablePart | None:
        if scope["method"] != "GET" or FROM_TRUSTED_PROXY not in scope or not self._is_secret_right(scope["headers"]):
            return None
        part = representation.select_offloadable_part(scope["headers"])
        return None if part is None or part.byte_range.length < self._minimum else part

    def _is_secret_right(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """A proxy that adds a field to that of its client, rather than replacing it, is not believed."""
        sent = [value for name, value in headers if name == SECRET_FIELD]
        return len(sent) == 1 and compare_digest(sent[0], self._secret)

    async def _find_location(self, source: StoredSource, part: OffloadablePart) -> RawHeaders | None:
        if is_s3_uri(source.path):
            if not self._sends_from_store:
                return None
            return await self._store_fields.get(source.path, lambda: self._sign(source))
        location = self._name_local_file(source.path)
        if location is not None:
            async with self._storage.read(source.path, _first_byte(part)) as opened:
                if opened.info.size != source.size:
                    return None
        return location

    async def _sign(self, source: StoredSource) -> RawHeaders | None:
        """The path and query of a signed link, and the store's own tag of the object's version."""
        info = await self._storage.stat(source.path)
        link = await self._storage.presigned_url(source.path, expires_in=LINK_LIFETIME)
        if link is None or info.size != source.size:
            return None
        parts = urlsplit(link)
        return (
            (b"x-accel-redirect", STORE_LOCATION),
            (TARGET_FIELD, f"{parts.path}?{parts.query}".encode("ascii")),
            (MATCH_FIELD, info.etag.encode("latin-1")),
        )

    def _build_local_field(self, path: str) -> RawHeaders | None:
        """None for a file outside of the media location. Raises `InvalidKey`."""
        key = None if self._local_paths is None else self._local_paths.to_key(path)
        if key is None:
            return None
        if self._uses_x_accel:
            return ((b"x-accel-redirect", f"{LOCAL_LOCATION}{quote(key.value)}".encode("ascii")),)
        return ((b"x-sendfile", quote(os.fsencode(path)).encode("ascii")),)

    def _count(self, part: OffloadablePart) -> None:
        if self._sent is not None:
            self._sent[0] += part.byte_range.length

    def _complete(
        self, location: RawHeaders, representation: Representation, *, with_accept_ranges: bool
    ) -> RawHeaders:
        fields = representation.offload_headers
        if self._uses_x_accel:
            fields = rename_carried_over(fields, with_accept_ranges=with_accept_ranges)
        return (*fields, *location, (b"content-length", b"0"))


def _first_byte(part: OffloadablePart) -> ByteRange:
    return ByteRange(part.byte_range.first, part.byte_range.first)
