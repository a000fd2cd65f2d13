"""The files of assets, people and users as they are delivered, kept for a short while after they were asked for: a request for what was
just seen asks the catalogue nothing."""

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
    """A file, ready to be sent; the header fields of each way to ask for it are made up once."""

    __slots__ = ("_representations", "owner_id", "source")

    def __init__(self, served: ServedFile, storage: StorageService, locate: PathLookup | None = None) -> None:
        """`locate`: see `StoredSource`."""
        file = served.file
        if file.size is None or file.sha1 is None:
            raise ObjectNotFound(file.path, "catalogue", "never stored")
        self.owner_id = served.owner_id
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
        known = self._representations.get((attachment, is_versioned))
        if known is None:
            cache_control = IMMUTABLE if is_versioned else NO_CACHE
            known = Representation(self.source, attachment=attachment, cache_control=cache_control)
            self._representations[attachment, is_versioned] = known
        return known


ResolvedRendition = PreparedFile | ExternalFile | RenditionRedirect


class RenditionCache:
    """The files that were just asked for, whoever asked; what is not there is looked for again each time."""

    def __init__(self, catalog: Catalog, storage: StorageService) -> None:
        self._catalog = catalog
        self._storage = storage
        self._resolved: TTLCache[tuple[str, Rendition], ResolvedRendition] = TTLCache(MAX_CACHED_FILES)

    async def get(self, item_id: str, rendition: Rendition) -> ResolvedRendition | None:
        """Raises `RenditionMissing`."""
        return await self._resolved.get((item_id, rendition), lambda: self._find(UUID(item_id), rendition))

    def peek(self, item_id: str, rendition: Rendition) -> ResolvedRendition | None:
        """Without asking the catalogue."""
        return self._resolved.peek((item_id, rendition))

    def invalidate(self, item_id: UUID | str, rendition: Rendition) -> None:
        """There is another file now, or none."""
        self._resolved.invalidate((str(item_id), rendition))

    def invalidate_asset(self, asset_id: UUID | str) -> None:
        """The asset was changed or deleted."""
        self._resolved.invalidate(*((str(asset_id), rendition) for rendition in ASSET_RENDITIONS))

    async def _find(self, item_id: UUID, wanted: Rendition) -> ResolvedRendition | None:
        catalog = self._catalog
        if wanted is ORIGINAL:
            asset = await catalog.assets.get(item_id)
            found = None if asset is None else serve_original(asset)
        elif wanted is PERSON_THUMBNAIL:
            found = _serve_portrait(await catalog.renditions.get_for_person(item_id))
        elif wanted is PROFILE_IMAGE:
            found = _serve_portrait(await catalog.renditions.get_for_user(item_id))
        else:
            pictures = await catalog.renditions.get_for_asset(item_id)
            found = None if pictures is None else select_file(pictures, wanted, now())
        if not isinstance(found, ServedFile):
            return found
        if found.file.kind is FileKind.EXTERNAL:
            return ExternalFile(found)
        return PreparedFile(found, self._storage, partial(self._locate, item_id, wanted, found.file.sha1))

    async def _locate(self, item_id: UUID, wanted: Rendition, sha1: bytes | None) -> str | None:
        """Where the same bytes are now, past the cache."""
        self.invalidate(item_id, wanted)
        try:
            again = await self._find(item_id, wanted)
        except RenditionMissing:
            return None
        if not isinstance(again, PreparedFile) or sha1 is None or again.source.etag != build_etag(sha1):
            return None
        return again.source.path


def _serve_portrait(portrait: PortraitFile | None) -> ServedFile | None:
    if portrait is None:
        return None
    file = portrait.file
    return ServedFile(portrait.owner_id, file, file.path.rpartition("/")[2], file.created_at)
