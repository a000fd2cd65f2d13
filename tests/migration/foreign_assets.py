"""What another program, an import or a fault does to the files of foreign assets, and the rows of those."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from app.catalog.imports.imported_files import update_files
from app.catalog.schema.import_records import ImportedFile
from app.catalog.schema.records import File
from tests.migration.library import Library
from tests.real.foreign_files import ForeignAsset


async def get_file(library: Library, asset: ForeignAsset) -> File:
    file = await library.catalog.files.get(asset.file_id)
    assert file is not None
    return file


async def record_anew(library: Library, asset: ForeignAsset, content: bytes, path: Path | None = None) -> None:
    """As an import stores what the other program has recorded anew."""
    file = await get_file(library, asset)
    place = path or asset.path
    if path is not None:
        await asyncio.to_thread(asset.path.rename, path)
    await asyncio.to_thread(place.write_bytes, content)
    imported = ImportedFile(file.id, file.kind, str(place), len(content), "image/jpeg", hashlib.sha1(content).digest())
    async with library.catalog.database.write() as connection:
        await update_files(connection, {file.id: library.owner}, [imported], {file.id: file})


def change_object(library: Library, path: str, content: bytes | None) -> None:
    """Delete the object, or replace its bytes."""
    bucket = library.stack.bucket
    assert bucket is not None
    store, key = bucket.server.administration, path.removeprefix(f"s3://{bucket.name}/")
    if content is None:
        store.delete_object(Bucket=bucket.name, Key=key)
    else:
        store.put_object(Bucket=bucket.name, Key=key, Body=content)
