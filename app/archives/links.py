"""Links to archives: a token that opens just its archive, from any process and after a restart, until it expires or is revoked."""

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
CHECK_SECONDS = 5.0
"""A link that is revoked, or whose key is, is open no longer than this, in any process."""
OPEN_ENTRIES = 100_000
"""Archives kept open hold at most so many entries together (or one archive more), about a kilobyte each."""


@dataclass(frozen=True, slots=True)
class OpenedLink:
    """An archive that a token opens until `expires_at`."""

    id: UUID
    source: ArchiveSource
    expires_at: datetime


@dataclass(slots=True)
class _CachedLink:
    """`checked_at`: when the catalogue last said, or was asked, whether it has ended; by the monotonic clock."""

    link: OpenedLink
    checked_at: float


class ArchiveLinkService:
    """Makes links and opens them; those just opened are kept laid out, for a download asks for its archive many times."""

    def __init__(self, catalog: Catalog, archiver: ArchivePlanner) -> None:
        self._catalog = catalog
        self._archiver = archiver
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
    ) -> tuple[str, OpenedLink]:
        """The token, which is not kept, and what it opens: until that key or session ends, if one is given. Raises `NotFound`,
        `NotArchivable`."""
        manifest = await self._archiver.build_manifest(owner_id, asset_ids)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        packed = await asyncio.to_thread(manifest.pack)
        expires_at = datetime.now(UTC) + lifetime
        row = await self._catalog.archive_links.create(owner_id, name, packed, _hash(token), expires_at, credential_id)
        link = OpenedLink(row.id, await self._archiver.build_source(manifest, name, row.created_at), row.expires_at)
        self._keep(_hash(token), link)
        return token, link

    async def open(self, token: str) -> OpenedLink | None:
        """What the token opens; None for one that is unknown or has ended. Raises `ManifestUnreadable`."""
        digest = _hash(token)
        known = self._cached.get(digest)
        if known is not None and not await self._is_still_open(digest, known):
            self._drop(digest)
            return None
        if known is None:
            opening = self._loading.get(digest)
            if opening is None:
                opening = self._loading[digest] = asyncio.create_task(self._load(digest))
                opening.add_done_callback(lambda ended: self._on_loaded(digest, ended))
            link = await asyncio.shield(opening)
        else:
            link = known.link
        return link if link is not None and link.expires_at > datetime.now(UTC) else None

    async def aclose(self) -> None:
        """Stop opening those whose askers have gone."""
        opening = tuple(self._loading.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)

    def drop_revoked(self, link_ids: Iterable[UUID]) -> None:
        """These were revoked in this process."""
        revoked = set(link_ids)
        for digest in [digest for digest, known in self._cached.items() if known.link.id in revoked]:
            self._drop(digest)

    async def _is_still_open(self, digest: bytes, known: _CachedLink) -> bool:
        self._cached.move_to_end(digest)
        now, before = time.monotonic(), known.checked_at
        if now - before < CHECK_SECONDS:
            return True
        known.checked_at = now  # one of those who come at once asks
        try:
            return await self._catalog.archive_links.is_open(digest, datetime.now(UTC))
        except BaseException:
            known.checked_at = before
            raise

    async def _load(self, digest: bytes) -> OpenedLink | None:
        row = await self._catalog.archive_links.get_by_hash(digest, datetime.now(UTC))
        if row is None:
            return None
        manifest = await asyncio.to_thread(Manifest.unpack, row.manifest)
        link = OpenedLink(row.id, await self._archiver.build_source(manifest, row.name, row.created_at), row.expires_at)
        self._keep(digest, link)
        return link

    def _on_loaded(self, digest: bytes, opening: asyncio.Task[OpenedLink | None]) -> None:
        del self._loading[digest]
        if not opening.cancelled():
            opening.exception()  # nobody may be left to be told: that is no failure of the program

    def _keep(self, digest: bytes, link: OpenedLink) -> None:
        self._cached[digest] = _CachedLink(link, time.monotonic())
        self._cached_entries += _count_entries(link)
        while self._cached_entries > OPEN_ENTRIES and len(self._cached) > 1:
            self._cached_entries -= _count_entries(self._cached.popitem(last=False)[1].link)

    def _drop(self, digest: bytes) -> None:
        known = self._cached.pop(digest, None)
        if known is not None:
            self._cached_entries -= _count_entries(known.link)


def _count_entries(link: OpenedLink) -> int:
    return len(link.source.manifest.entries) + 1


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
