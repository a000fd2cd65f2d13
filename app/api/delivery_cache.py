"""The files of assets, people and users as they are delivered, kept for a short while after they were asked for: a request for what was
just seen asks the catalogue nothing."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from app.api.cache import RecentCache
from app.api.external import External
from app.api.renditions import (
    OF_ASSETS,
    ORIGINAL,
    PERSON,
    PROFILE,
    Elsewhere,
    NotMade,
    Rendition,
    Shown,
    choose,
    original,
)
from app.catalog.catalog import Catalog
from app.catalog.engine import now
from app.catalog.pictures import Portrait
from app.catalog.records import FileKind
from app.delivery.response import FOR_EVER, NO_CACHE, Representation
from app.delivery.stored import StoredSource, etag_of
from app.storage.errors import ObjectNotFound
from app.storage.following import Locate
from app.storage.service import StorageService

CACHED_FILES = 20_000


class Deliverable:
    """A file, ready to be sent; the header fields of each way to ask for it are made up once."""

    __slots__ = ("_representations", "owner_id", "source")

    def __init__(self, shown: Shown, storage: StorageService, locate: Locate | None = None) -> None:
        """`locate`: see `StoredSource`."""
        file = shown.file
        if file.size is None or file.sha1 is None:
            raise ObjectNotFound(file.path, "catalogue", "never stored")
        self.owner_id = shown.owner_id
        self.source = StoredSource(
            storage,
            path=file.path,
            size=file.size,
            etag=etag_of(file.sha1),
            last_modified=shown.last_modified,
            content_type=file.mime_type,
            filename=shown.filename,
            locate=locate,
        )
        self._representations: dict[tuple[bool, bool], Representation] = {}

    def representation(self, *, attachment: bool, versioned: bool) -> Representation:
        known = self._representations.get((attachment, versioned))
        if known is None:
            cache_control = FOR_EVER if versioned else NO_CACHE
            known = Representation(self.source, attachment=attachment, cache_control=cache_control)
            self._representations[attachment, versioned] = known
        return known


Found = Deliverable | External | Elsewhere


class DeliveryCache:
    """The files that were just asked for, whoever asked; what is not there is looked for again each time."""

    def __init__(self, catalog: Catalog, storage: StorageService) -> None:
        self._catalog = catalog
        self._storage = storage
        self._found: RecentCache[tuple[str, Rendition], Found] = RecentCache(CACHED_FILES)

    async def get(self, item_id: str, wanted: Rendition) -> Found | None:
        """Raises `NotMade`."""
        return await self._found.get((item_id, wanted), lambda: self._find(UUID(item_id), wanted))

    def recent(self, item_id: str, wanted: Rendition) -> Found | None:
        """Without asking the catalogue."""
        return self._found.peek((item_id, wanted))

    def forget(self, item_id: UUID | str, wanted: Rendition) -> None:
        """There is another file now, or none."""
        self._found.forget((str(item_id), wanted))

    def forget_asset(self, asset_id: UUID | str) -> None:
        """The asset was changed or deleted."""
        self._found.forget(*((str(asset_id), rendition) for rendition in OF_ASSETS))

    async def _find(self, item_id: UUID, wanted: Rendition) -> Found | None:
        catalog = self._catalog
        if wanted is ORIGINAL:
            asset = await catalog.assets.get(item_id)
            found = None if asset is None else original(asset)
        elif wanted is PERSON:
            found = _portrait(await catalog.pictures.of_person(item_id))
        elif wanted is PROFILE:
            found = _portrait(await catalog.pictures.of_user(item_id))
        else:
            pictures = await catalog.pictures.of_asset(item_id)
            found = None if pictures is None else choose(pictures, wanted, now())
        if not isinstance(found, Shown):
            return found
        if found.file.kind is FileKind.EXTERNAL:
            return External(found)
        return Deliverable(found, self._storage, partial(self._locate, item_id, wanted, found.file.sha1))

    async def _locate(self, item_id: UUID, wanted: Rendition, sha1: bytes | None) -> str | None:
        """Where the same bytes are now, past the cache."""
        self.forget(item_id, wanted)
        try:
            again = await self._find(item_id, wanted)
        except NotMade:
            return None
        if not isinstance(again, Deliverable) or sha1 is None or again.source.etag != etag_of(sha1):
            return None
        return again.source.path


def _portrait(portrait: Portrait | None) -> Shown | None:
    if portrait is None:
        return None
    file = portrait.file
    return Shown(portrait.owner_id, file, file.path.rpartition("/")[2], file.created_at)
