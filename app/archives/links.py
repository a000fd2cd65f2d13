"""Creates and opens download links of archives. A link's token opens only its archive, in any process and after a restart, until the link
expires or is revoked."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from app.archives.manifest import Manifest
from app.archives.planner import ArchivePlanner
from app.archives.stream import ArchiveSource
from app.catalog.catalog import Catalog

TOKEN_BYTES = 32
RECHECK_SECONDS = 5.0
"""Interval at which the catalogue is asked whether a cached link is still open: a revocation takes effect in all processes within it."""
MAX_CACHED_ENTRIES = 100_000
"""Bounds the entries of all cached archives together, about a kilobyte each; a single larger archive is cached alone."""


@dataclass(frozen=True, slots=True)
class OpenedLink:
    """A link's archive, ready to be sent until `expires_at`."""

    id: UUID
    source: ArchiveSource
    expires_at: datetime


@dataclass(slots=True)
class _CachedLink:
    """`checked_at`: when the catalogue was last asked whether the link is open, by the monotonic clock."""

    link: OpenedLink
    checked_at: float


class ArchiveLinkService:
    """Creates, opens and caches links. The layout of recent archives is cached, because a download sends many requests for one archive."""

    def __init__(self, catalog: Catalog, planner: ArchivePlanner) -> None:
        self._catalog = catalog
        self._planner = planner
        self._cached: OrderedDict[bytes, _CachedLink] = OrderedDict()
        self._loading: dict[bytes, asyncio.Task[OpenedLink | None]] = {}
        self._cached_entries = 0

    async def create(
        self,
        owner_id: UUID,
        asset_ids: Iterable[UUID],
        name: str,
        lifetime: timedelta,
        credential_id: UUID | None = None,
        *,
        with_locked: bool = True,
    ) -> tuple[str, OpenedLink]:
        """Create a link; returns its token and its archive. The catalogue stores only a hash of the token.

        `credential_id`: the link also ends when this API key or session ends. `with_locked`: see `ArchivePlanner`. Raises
        `NotFound`, `NotArchivable`.
        """
        manifest = await self._planner.build_manifest(owner_id, asset_ids, with_locked=with_locked)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        packed = await asyncio.to_thread(manifest.pack)
        expires_at = datetime.now(UTC) + lifetime
        row = await self._catalog.archive_links.create(owner_id, name, packed, _hash(token), expires_at, credential_id)
        link = OpenedLink(row.id, await self._planner.build_source(manifest, name, row.created_at), row.expires_at)
        self._keep(_hash(token), link)
        return token, link

    async def open(self, token: str) -> OpenedLink | None:
        """The archive of a token; None if the token is unknown, expired or revoked. Raises `ManifestUnreadable`."""
        digest = _hash(token)
        cached = self._cached.get(digest)
        if cached is not None and not await self._is_still_open(digest, cached):
            self._drop(digest)
            return None
        if cached is None:
            loading = self._loading.get(digest)
            if loading is None:
                loading = self._loading[digest] = asyncio.create_task(self._load(digest))
                loading.add_done_callback(lambda done: self._on_loaded(digest, done))
            link = await asyncio.shield(loading)
        else:
            link = cached.link
        return link if link is not None and link.expires_at > datetime.now(UTC) else None

    async def aclose(self) -> None:
        """Cancel and await the loads that still run: their callers may be gone."""
        loading = tuple(self._loading.values())
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)

    def drop_revoked(self, link_ids: Iterable[UUID]) -> None:
        """Remove links that this process has revoked from the cache."""
        revoked = set(link_ids)
        for digest in [digest for digest, cached in self._cached.items() if cached.link.id in revoked]:
            self._drop(digest)

    async def _is_still_open(self, digest: bytes, cached: _CachedLink) -> bool:
        self._cached.move_to_end(digest)
        now, before = time.monotonic(), cached.checked_at
        if now - before < RECHECK_SECONDS:
            return True
        cached.checked_at = now  # set first, so that only one of several concurrent requests queries the catalogue
        try:
            return await self._catalog.archive_links.is_open(digest, datetime.now(UTC))
        except BaseException:
            cached.checked_at = before
            raise

    async def _load(self, digest: bytes) -> OpenedLink | None:
        row = await self._catalog.archive_links.get_by_hash(digest, datetime.now(UTC))
        if row is None:
            return None
        manifest = await asyncio.to_thread(Manifest.unpack, row.manifest)
        link = OpenedLink(row.id, await self._planner.build_source(manifest, row.name, row.created_at), row.expires_at)
        self._keep(digest, link)
        return link

    def _on_loaded(self, digest: bytes, done: asyncio.Task[OpenedLink | None]) -> None:
        del self._loading[digest]
        if not done.cancelled():
            done.exception()  # retrieved, so that asyncio does not log it if all callers are gone

    def _keep(self, digest: bytes, link: OpenedLink) -> None:
        self._cached[digest] = _CachedLink(link, time.monotonic())
        self._cached_entries += _count_entries(link)
        while self._cached_entries > MAX_CACHED_ENTRIES and len(self._cached) > 1:
            self._cached_entries -= _count_entries(self._cached.popitem(last=False)[1].link)

    def _drop(self, digest: bytes) -> None:
        cached = self._cached.pop(digest, None)
        if cached is not None:
            self._cached_entries -= _count_entries(cached.link)


def _count_entries(link: OpenedLink) -> int:
    return len(link.source.manifest.entries) + 1


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
