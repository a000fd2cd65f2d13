"""Caches which file answers a request for an asset, a person or a user, so that repeated requests need no catalogue query.

Caches no file contents.
"""

from __future__ import annotations

from functools import partial
from uuid import UUID

from app.api.files.external_files import ExternalFile
from app.api.files.renditions import (
    ASSET_RENDITIONS,
    ORIGINAL,
    PERSON_THUMBNAIL,
    PROFILE_IMAGE,
    Rendition,
    RenditionMissing,
    RenditionRedirect,
    ServedFile,
    select_file,
    serve_original,
)
from app.api.ttl_cache import TTLCache
from app.catalog.assets.rendition_lookup import PortraitFile
from app.catalog.catalog import Catalog
from app.catalog.database.engine import now
from app.catalog.schema.records import FileKind
from app.delivery.response import IMMUTABLE, NO_CACHE, Representation
from app.delivery.stored_source import StoredSource, build_etag
from app.storage.errors import ObjectNotFound
from app.storage.relocated_reads import PathLookup
from app.storage.service import StorageService

MAX_CACHED_FILES = 20_000


class PreparedFile:
    """A managed file with its header fields, which are built once for each combination of attachment and versioned URL."""

    __slots__ = ("_representations", "is_locked", "may_be_offloaded", "owner_id", "source")

    def __init__(self, served: ServedFile, storage: StorageService, locate: PathLookup | None = None) -> None:
        """`locate`: see `StoredSource`. Raises `ObjectNotFound` if the file was never stored."""
        file = served.file
        if file.size is None or file.sha1 is None:
            raise ObjectNotFound(file.path, "catalogue", "never stored")
        self.owner_id = served.owner_id
        self.is_locked = served.is_locked
        self.may_be_offloaded = not file.is_foreign
        """To a front server. Another program may replace a foreign file after the check."""
        self.source = StoredSource(
            storage,
            path=file.path,
            size=file.size,
            etag=build_etag(file.sha1),
            last_modified=served.last_modified,
            content_type=file.mime_type,
            filename=served.filename,
            locate=locate,
        )
        self._representations: dict[tuple[bool, bool], Representation] = {}

    def get_representation(self, *, attachment: bool, is_versioned: bool) -> Representation:
        representation = self._representations.get((attachment, is_versioned))
        if representation is None:
            cache_control = IMMUTABLE if is_versioned else NO_CACHE
            representation = Representation(self.source, attachment=attachment, cache_control=cache_control)
            self._representations[attachment, is_versioned] = representation
        return representation


ResolvedRendition = PreparedFile | ExternalFile | RenditionRedirect


class RenditionCache:
    """Recently requested files of all users. A missing file is not cached: each request looks it up again."""

    def __init__(self, catalog: Catalog, storage: StorageService, stale_seconds: float) -> None:
        """`stale_seconds`: see `TTLCache`."""
        self._catalog = catalog
        self._storage = storage
        self._resolved: TTLCache[tuple[str, Rendition], ResolvedRendition] = TTLCache(
            MAX_CACHED_FILES, stale_seconds=stale_seconds
        )

    async def get(self, item_id: str, rendition: Rendition) -> ResolvedRendition | None:
        """The file, from the cache or the catalogue; None if there is no such item. Raises `RenditionMissing`."""
        return await self._resolved.get((item_id, rendition), lambda: self._find(UUID(item_id), rendition))

    def peek(self, item_id: str, rendition: Rendition) -> ResolvedRendition | None:
        """The cached file; never queries the catalogue."""
        return self._resolved.peek((item_id, rendition))

    def invalidate(self, item_id: UUID | str, rendition: Rendition) -> None:
        """Call after the file was replaced or removed."""
        self._resolved.invalidate((str(item_id), rendition))

    def invalidate_asset(self, asset_id: UUID | str) -> None:
        """Call after the asset was changed or deleted."""
        self._resolved.invalidate(*((str(asset_id), rendition) for rendition in ASSET_RENDITIONS))

    async def _find(self, item_id: UUID, rendition: Rendition) -> ResolvedRendition | None:
        catalog = self._catalog
        if rendition is ORIGINAL:
            asset = await catalog.assets.get(item_id)
            served = None if asset is None else serve_original(asset)
        elif rendition is PERSON_THUMBNAIL:
            served = _serve_portrait(await catalog.renditions.get_for_person(item_id))
        elif rendition is PROFILE_IMAGE:
            served = _serve_portrait(await catalog.renditions.get_for_user(item_id))
        else:
            renditions = await catalog.renditions.get_for_asset(item_id)
            served = None if renditions is None else select_file(renditions, rendition, now())
        if not isinstance(served, ServedFile):
            return served
        if served.file.kind is FileKind.EXTERNAL or (served.file.is_foreign and served.file.sha1 is None):
            return ExternalFile(served)
        return PreparedFile(served, self._storage, partial(self._locate, item_id, rendition, served.file.sha1))

    async def _locate(self, item_id: UUID, rendition: Rendition, sha1: bytes | None) -> str | None:
        """The current path of the file with this SHA-1, read from the catalogue and not from the cache."""
        self.invalidate(item_id, rendition)
        try:
            current = await self._find(item_id, rendition)
        except RenditionMissing:
            return None
        if not isinstance(current, PreparedFile) or sha1 is None or current.source.etag != build_etag(sha1):
            return None
        return current.source.path


def _serve_portrait(portrait: PortraitFile | None) -> ServedFile | None:
    if portrait is None:
        return None
    file = portrait.file
    return ServedFile(portrait.owner_id, file, file.path.rpartition("/")[2], file.created_at)
