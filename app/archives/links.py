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
from app.archives.planning import Archiver
from app.archives.stream import ArchiveSource
from app.catalog.catalog import Catalog

TOKEN_BYTES = 32
CHECK_SECONDS = 5.0
"""A link that is revoked, or whose key is, is open no longer than this, in any process."""
OPEN_ENTRIES = 100_000
"""Archives kept open hold at most so many entries together (or one archive more), about a kilobyte each."""


@dataclass(frozen=True, slots=True)
class Link:
    """An archive that a token opens until `expires_at`."""

    id: UUID
    source: ArchiveSource
    expires_at: datetime


@dataclass(slots=True)
class _Open:
    """`checked`: when the catalogue last said, or was asked, whether it has ended; by the monotonic clock."""

    link: Link
    checked: float


class Links:
    """Makes links and opens them; those just opened are kept laid out, for a download asks for its archive many times."""

    def __init__(self, catalog: Catalog, archiver: Archiver) -> None:
        self._catalog = catalog
        self._archiver = archiver
        self._open: OrderedDict[bytes, _Open] = OrderedDict()
        self._opening: dict[bytes, asyncio.Task[Link | None]] = {}
        self._entries = 0

    async def create(
        self,
        owner_id: UUID,
        asset_ids: Iterable[UUID],
        name: str,
        lifetime: timedelta,
        credential_id: UUID | None = None,
    ) -> tuple[str, Link]:
        """The token, which is not kept, and what it opens: until that key or session ends, if one is given. Raises `NotFound`,
        `NotArchivable`."""
        manifest = await self._archiver.manifest(owner_id, asset_ids)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        packed = await asyncio.to_thread(manifest.pack)
        expires_at = datetime.now(UTC) + lifetime
        row = await self._catalog.archives.create(owner_id, name, packed, _hash(token), expires_at, credential_id)
        link = Link(row.id, await self._archiver.source(manifest, name, row.created_at), row.expires_at)
        self._keep(_hash(token), link)
        return token, link

    async def open(self, token: str) -> Link | None:
        """What the token opens; None for one that is unknown or has ended. Raises `ManifestUnreadable`."""
        digest = _hash(token)
        known = self._open.get(digest)
        if known is not None and not await self._still_open(digest, known):
            self._drop(digest)
            return None
        if known is None:
            opening = self._opening.get(digest)
            if opening is None:
                opening = self._opening[digest] = asyncio.create_task(self._load(digest))
                opening.add_done_callback(lambda ended: self._ended(digest, ended))
            link = await asyncio.shield(opening)
        else:
            link = known.link
        return link if link is not None and link.expires_at > datetime.now(UTC) else None

    async def aclose(self) -> None:
        """Stop opening those whose askers have gone."""
        opening = tuple(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)

    def forget(self, link_ids: Iterable[UUID]) -> None:
        """These were revoked in this process."""
        revoked = set(link_ids)
        for digest in [digest for digest, known in self._open.items() if known.link.id in revoked]:
            self._drop(digest)

    async def _still_open(self, digest: bytes, known: _Open) -> bool:
        self._open.move_to_end(digest)
        now, before = time.monotonic(), known.checked
        if now - before < CHECK_SECONDS:
            return True
        known.checked = now  # one of those who come at once asks
        try:
            return await self._catalog.archives.is_open(digest, datetime.now(UTC))
        except BaseException:
            known.checked = before
            raise

    async def _load(self, digest: bytes) -> Link | None:
        row = await self._catalog.archives.by_hash(digest, datetime.now(UTC))
        if row is None:
            return None
        manifest = await asyncio.to_thread(Manifest.unpack, row.manifest)
        link = Link(row.id, await self._archiver.source(manifest, row.name, row.created_at), row.expires_at)
        self._keep(digest, link)
        return link

    def _ended(self, digest: bytes, opening: asyncio.Task[Link | None]) -> None:
        del self._opening[digest]
        if not opening.cancelled():
            opening.exception()  # nobody may be left to be told: that is no failure of the program

    def _keep(self, digest: bytes, link: Link) -> None:
        self._open[digest] = _Open(link, time.monotonic())
        self._entries += _cost(link)
        while self._entries > OPEN_ENTRIES and len(self._open) > 1:
            self._entries -= _cost(self._open.popitem(last=False)[1].link)

    def _drop(self, digest: bytes) -> None:
        known = self._open.pop(digest, None)
        if known is not None:
            self._entries -= _cost(known.link)


def _cost(link: Link) -> int:
    return len(link.source.manifest.entries) + 1


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
