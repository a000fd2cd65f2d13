"""Stores derivatives without a worker: arbitrary bytes, stored and swapped in as the pipeline does."""

from __future__ import annotations

import hashlib
import zlib
from datetime import timedelta
from uuid import UUID, uuid4

from app.catalog.assets.derivatives import FileReplacement
from app.catalog.catalog import Catalog
from app.catalog.schema.records import FileKind, StoredFile
from app.storage.key import Key
from app.storage.service import StorageService
from tests.real.service import Service

TYPES = {
    FileKind.THUMBNAIL: (".webp", "image/webp"),
    FileKind.PREVIEW: (".jpeg", "image/jpeg"),
    FileKind.FULLSIZE: (".jpeg", "image/jpeg"),
    FileKind.ENCODED_VIDEO: (".mp4", "video/mp4"),
}


def store_derivative(service: Service, asset_id: str, kind: FileKind, data: bytes) -> str:
    """Make `data` the asset's derivative of this kind, in place of an existing one; returns its path."""

    async def put(catalog: Catalog, storage: StorageService) -> str:
        asset = await catalog.assets.get(UUID(asset_id))
        assert asset is not None
        previous = (await catalog.derivatives.get_for_asset(asset.id)).get(kind)
        extension, mime_type = TYPES[kind]
        path = storage.managed_path(Key(f"thumbs/{asset.owner_id}/{asset.id}_{kind}_{uuid4().hex[:8]}{extension}"))
        file = await catalog.files.begin_write(asset.owner_id, kind, path, mime_type, timedelta(minutes=5))
        async with storage.write(path, size=len(data), content_type=mime_type) as writer:
            await writer.write(data)
        stored = StoredFile(file.id, len(data), hashlib.sha1(data).digest(), zlib.crc32(data))
        replacement = FileReplacement(kind, previous.file.id if previous else None, stored)
        assert await catalog.derivatives.swap_files(asset.owner_id, asset.id, [replacement])
        return path

    return service.people.call_with_storage(put)
