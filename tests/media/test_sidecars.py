"""Sidecars in processing: their values win over the file's, and a fault of one is never the photo's."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update

from app.catalog.assets.duplicate_uploads import DuplicateAddition
from app.catalog.schema import tables
from app.catalog.schema.records import Asset, AssetChanges, FileKind, StoredFile, Task
from app.formats import MAX_SIDECAR_BYTES, MediaFormat
from app.media.processing_results import MetadataResult
from app.media.processor import MediaProcessor
from app.storage.errors import StorageError, StoragePermission, StorageUnavailable
from app.storage.key import Key
from tests.media.photo_files import encode_jpeg, make_quarters
from tests.media.processing_stack import LEASE, ProcessingStack, open_processing_stack
from tests.media.sidecar_files import make_sidecar
from tests.real.stacks import Stacks


@pytest.fixture
async def place(stacks: Stacks, tmp_path: Path, processor: MediaProcessor) -> AsyncIterator[ProcessingStack]:
    async with open_processing_stack(stacks.create("local", tmp_path / "place"), tmp_path, processor) as place:
        yield place


async def keep_photo(place: ProcessingStack) -> tuple[Asset, Task]:
    return await place.keep(encode_jpeg(make_quarters(80, 60)) + random.randbytes(20), "a.jpg")


async def add_sidecar(place: ProcessingStack, asset: Asset, data: bytes) -> Task:
    """Store a sidecar and add it to the asset, as a duplicate does. Returns the task that reads it."""
    path = place.storage.managed_path(Key(f"upload/{place.user.id}/{uuid4()}.xmp"))
    row = await place.catalog.files.begin_write(place.user.id, FileKind.SIDECAR, path, "application/xml", LEASE)
    async with place.storage.write(path, size=len(data)) as writer:
        await writer.write(data)
    stored = StoredFile(row.id, len(data), hashlib.sha1(data).digest(), zlib.crc32(data))
    added = await place.catalog.duplicate_uploads.complete_asset(place.user.id, asset.id, stored, is_favorite=False)
    assert added == (DuplicateAddition.SIDECAR,)
    task = await place.catalog.tasks.get_for_asset(asset.id)
    assert task is not None
    return task


async def read_exif(place: ProcessingStack, asset: Asset) -> tuple[dict[str, object], str | None]:
    """EXIF and the sidecar's error."""
    found = await place.catalog.assets.get(asset.id)
    assert found is not None
    return found.exif or {}, found.sidecar_error


async def test_a_sidecar_that_comes_later_is_read_and_no_picture_is_made_again(place: ProcessingStack) -> None:
    asset, task = await keep_photo(place)
    await place.pipeline().process(task)
    made = await place.catalog.derivatives.get_for_asset(asset.id)

    await place.pipeline().process(await add_sidecar(place, asset, make_sidecar()))

    exif, error = await read_exif(place, asset)
    assert (exif["rating"], exif["description"], error) == (4, "of the sidecar", None)
    assert await place.catalog.derivatives.get_for_asset(asset.id) == made
    await place.check()


async def test_what_a_user_edited_wins_over_the_sidecar(place: ProcessingStack) -> None:
    asset, task = await keep_photo(place)
    await place.pipeline().process(task)
    await place.catalog.assets.update(place.user.id, asset.id, AssetChanges(exif={"rating": 1}))

    await place.pipeline().process(await add_sidecar(place, asset, make_sidecar()))

    exif, _ = await read_exif(place, asset)
    assert (exif["rating"], exif["description"]) == (1, "of the sidecar")


async def test_values_that_an_older_version_read_from_the_file_are_no_edits(place: ProcessingStack) -> None:
    asset, task = await keep_photo(place)
    await place.pipeline().process(task)
    exif, _ = await read_exif(place, asset)
    async with place.catalog.database.write() as connection:
        older = update(tables.asset).where(tables.asset.c.id == asset.id)
        await connection.execute(older.values(exif=exif | {"rating": 2}, exif_edits=None))

    await place.pipeline().process(await add_sidecar(place, asset, make_sidecar()))

    exif, _ = await read_exif(place, asset)
    assert (exif["rating"], exif["description"]) == (2, "of the sidecar")


async def test_a_run_that_began_before_the_sidecar_came_does_not_undo_it(
    place: ProcessingStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset, task = await keep_photo(place)
    read = place.processor.read_metadata

    async def read_slowly(source: Path, format: MediaFormat, sidecar: Path | None = None) -> MetadataResult:
        result = await read(source, format, sidecar)
        monkeypatch.undo()
        await place.pipeline().process(await add_sidecar(place, asset, make_sidecar()))
        return result

    monkeypatch.setattr(place.processor, "read_metadata", read_slowly)
    await place.pipeline().process(task)

    exif, _ = await read_exif(place, asset)
    assert exif["rating"] == 4
    await place.check()


@pytest.mark.parametrize("fault", ["missing", "too large", "not permitted"])
async def test_a_sidecar_that_cannot_be_read_is_its_own_error(
    place: ProcessingStack, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    asset, _ = await keep_photo(place)
    task = await add_sidecar(place, asset, b" " * (MAX_SIDECAR_BYTES + 1) if fault == "too large" else make_sidecar())
    current = await place.catalog.assets.get(asset.id)
    assert current is not None
    assert current.sidecar_id is not None
    sidecar = await place.catalog.files.get(current.sidecar_id)
    assert sidecar is not None
    kept = await read_bytes(place, sidecar.path) if fault == "missing" else b""
    if fault == "missing":
        assert not await place.storage.unlink_many([sidecar.path])
    if fault == "not permitted":
        fail_reads(place, sidecar.path, StoragePermission(sidecar.path, "test", "Permission denied"), monkeypatch)

    await place.pipeline().process(task)

    expected = {
        "missing": "it is missing",
        "too large": "it is larger than 16 MiB",
        "not permitted": "it cannot be read: Permission denied",
    }
    exif, error = await read_exif(place, asset)
    assert (error, exif.get("rating")) == (expected[fault], None)
    assert set(await place.made(asset)) == {FileKind.THUMBNAIL, FileKind.PREVIEW}
    if fault == "missing":
        async with place.storage.write(sidecar.path, size=len(kept)) as writer:
            await writer.write(kept)
        await place.pipeline().process(await place.requested_again(task))
        exif, error = await read_exif(place, asset)
        assert (error, exif["rating"]) == (None, 4)
    await place.check()


async def test_a_store_that_is_away_delays_the_metadata_and_not_the_pictures(
    place: ProcessingStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset, _ = await keep_photo(place)
    task = await add_sidecar(place, asset, make_sidecar())
    current = await place.catalog.assets.get(asset.id)
    assert current is not None
    assert current.sidecar_id is not None
    sidecar = await place.catalog.files.get(current.sidecar_id)
    assert sidecar is not None
    fail_reads(place, sidecar.path, StorageUnavailable(sidecar.path, "test"), monkeypatch)

    with pytest.raises(StorageUnavailable):
        await place.pipeline().process(task)
    assert set(await place.made(asset)) == {FileKind.THUMBNAIL, FileKind.PREVIEW}
    monkeypatch.undo()
    await place.pipeline().process(task)

    exif, error = await read_exif(place, asset)
    assert (exif["rating"], error) == (4, None)
    await place.check()


async def read_bytes(place: ProcessingStack, path: str) -> bytes:
    async with place.storage.read(path) as stream:
        return b"".join([bytes(chunk) async for chunk in stream.chunks])


def fail_reads(place: ProcessingStack, path: str, error: StorageError, monkeypatch: pytest.MonkeyPatch) -> None:
    read = place.storage.read

    def fail(read_path: str, *arguments: Any) -> Any:
        if read_path == path:
            raise error
        return read(read_path, *arguments)

    monkeypatch.setattr(place.storage, "read", fail)
