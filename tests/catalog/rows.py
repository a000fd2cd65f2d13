"""Creates users, files and assets for tests, with defaults for values that the test does not care about."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from app.catalog.assets.derivatives import ExtractedProperties, FileReplacement
from app.catalog.catalog import Catalog
from app.catalog.schema.records import Asset, AssetType, File, FileKind, FileState, NewAsset, StoredFile, Task, User

LEASE = timedelta(minutes=10)
TAKEN = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


async def make_user(catalog: Catalog, *, quota: int | None = None) -> User:
    return await catalog.users.create(f"{uuid4()}@example.org", "Someone", quota=quota)


async def begin(
    catalog: Catalog,
    owner: UUID,
    kind: FileKind = FileKind.ORIGINAL,
    lease: timedelta = LEASE,
    mime_type: str = "image/jpeg",
) -> File:
    return await catalog.files.begin_write(owner, kind, f"/media/upload/{owner}/{uuid4()}", mime_type, lease)


def stored(file: File, content: bytes | None = None, size: int = 100) -> StoredFile:
    """The result of a write of `content`, or of random content whose recorded size is `size`."""
    data = random.randbytes(20) if content is None else content
    return StoredFile(
        file.id, len(data) if content is not None else size, hashlib.sha1(data).digest(), zlib.crc32(data)
    )


def new_asset(owner: UUID, checksum: bytes, **changes: Any) -> NewAsset:
    values: dict[str, Any] = {
        "id": uuid4(),
        "owner_id": owner,
        "type": AssetType.IMAGE,
        "checksum": checksum,
        "original_file_name": "IMG_0001.jpg",
        "file_created_at": TAKEN,
        "file_modified_at": TAKEN,
        "local_date_time": TAKEN,
    }
    return NewAsset(**(values | changes))


async def upload(
    catalog: Catalog,
    owner: UUID,
    *,
    content: bytes | None = None,
    size: int = 100,
    sidecar_size: int | None = None,
    mime_type: str = "image/jpeg",
    **changes: Any,
) -> Asset:
    """An upload as the catalogue sees it: begin the write, store the bytes, insert the asset."""
    original = stored(await begin(catalog, owner, mime_type=mime_type), content, size)
    sidecar = None
    if sidecar_size is not None:
        sidecar = stored(await begin(catalog, owner, FileKind.SIDECAR), size=sidecar_size)
    return await catalog.assets.insert(new_asset(owner, original.sha1, **changes), original, sidecar)


async def file_states(catalog: Catalog) -> dict[UUID, FileState]:
    return {file.id: file.state async for file in catalog.files.iterate_all()}


async def used_bytes(catalog: Catalog, owner: UUID) -> int:
    user = await catalog.users.get(owner)
    assert user is not None
    return user.used


async def task_of(catalog: Catalog, asset: Asset) -> Task:
    task = await catalog.tasks.get_for_asset(asset.id)
    assert task is not None
    return task


async def make(
    catalog: Catalog, asset: Asset, *kinds: FileKind, seen: Mapping[FileKind, UUID] | None = None, **findings: Any
) -> tuple[bool, dict[FileKind, UUID]]:
    """Make derivatives of these kinds that replace the files in `seen`. Returns whether they were swapped in, and the
    ids of the new files."""
    files = {kind: await begin(catalog, asset.owner_id, kind) for kind in kinds}
    replacements = [FileReplacement(kind, (seen or {}).get(kind), stored(file)) for kind, file in files.items()]
    swapped = await catalog.derivatives.swap_files(
        asset.owner_id, asset.id, replacements, ExtractedProperties(**findings)
    )
    return swapped, {kind: file.id for kind, file in files.items()}
