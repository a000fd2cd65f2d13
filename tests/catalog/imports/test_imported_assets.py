"""Assets that are taken over, batch by batch: what their files, names and checksums are afterwards."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from uuid import UUID

from sqlalchemy import select

from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from app.catalog.schema.records import Asset, FileKind
from tests.catalog.imports.batches import ROOT, SIZE, Source, edited, moved, with_preview
from tests.catalog.rows import make, upload


async def _list_names(catalog: Catalog) -> dict[UUID, str]:
    """The name of each file that a library lists, by the asset's id."""
    listed = select(tables.library_file.c.asset_id, tables.library_file.c.name)
    async with catalog.database.read() as connection:
        return {row.asset_id: row.name for row in await connection.execute(listed)}


async def _get(catalog: Catalog, asset_id: UUID) -> Asset:
    asset = await catalog.assets.get(asset_id)
    assert asset is not None
    return asset


async def _read_paths(catalog: Catalog, *asset_ids: UUID) -> list[str]:
    found = [await catalog.assets.get(asset_id) for asset_id in asset_ids]
    return [asset.file.path for asset in found if asset is not None]


async def test_a_file_of_a_library_is_listed_again_under_another_id(catalog: Catalog, source: Source) -> None:
    """Immich has removed the first asset, and finds its file anew."""
    first, second = source.listed("a.jpg"), source.listed("a.jpg")
    await catalog.imported_assets.apply([first])
    holders = await catalog.imported_assets.find_holders([second])
    assert holders == {first.id}
    await catalog.vanished_assets.trash(holders)
    await catalog.vanished_assets.release(holders)

    changes = await catalog.imported_assets.apply([second])

    assert not changes.path_conflicts
    assert await _read_paths(catalog, second.id) == [f"{ROOT}/a.jpg"]
    names = await _list_names(catalog)
    assert names == {second.id: "a.jpg", first.id: f"a.jpg/{first.original.id}"}

    again = moved(first, "b.jpg")
    await catalog.imported_assets.apply([again])
    assert await _list_names(catalog) == {second.id: "a.jpg", first.id: "b.jpg"}


async def test_a_file_of_a_library_takes_the_name_of_one_that_moves_away(catalog: Catalog, source: Source) -> None:
    """In one batch, whichever comes first in it."""
    for name, is_first in (("a", True), ("b", False)):
        known, new = source.listed(f"{name}.jpg"), source.listed(f"{name}.jpg")
        await catalog.imported_assets.apply([known])
        gone = moved(known, f"{name}/other.jpg")

        changes = await catalog.imported_assets.apply([gone, new] if is_first else [new, gone])

        assert not changes.path_conflicts
        assert await _read_paths(catalog, known.id, new.id) == [f"{ROOT}/{name}/other.jpg", f"{ROOT}/{name}.jpg"]
        names = await _list_names(catalog)
        assert (names[known.id], names[new.id]) == ("other.jpg", f"{name}.jpg")


async def test_a_file_of_a_library_that_was_edited_to_the_same_size_is_another_content(
    catalog: Catalog, source: Source
) -> None:
    listed = source.listed("a.jpg")
    await catalog.imported_assets.apply([listed])
    asset = await _get(catalog, listed.id)
    assert await catalog.library_files.store_checksums(asset, SIZE, listed.file_modified_at, b"1" * 20, 1)
    assert listed.id in (await catalog.imported_assets.apply([listed])).unchanged
    assert (await _get(catalog, listed.id)).file.sha1 == b"1" * 20

    for again in (edited(listed), moved(edited(listed, days=2), "b.jpg")):
        changes = await catalog.imported_assets.apply([again])

        assert [asset_id for asset_id, _ in changes.to_process] == [listed.id]
        current = await _get(catalog, listed.id)
        assert (current.file.sha1, current.file.crc32, current.checksum) == (None, None, None)
        assert not await catalog.library_files.store_checksums(asset, SIZE, listed.file_modified_at, b"1" * 20, 1)
        assert await catalog.library_files.store_checksums(current, SIZE, again.file_modified_at, b"2" * 20, 2)
        assert listed.id in (await catalog.imported_assets.apply([again])).unchanged
        assert (await _get(catalog, listed.id)).checksum == b"2" * 20


async def test_what_was_made_of_a_former_content_is_made_anew(catalog: Catalog, source: Source) -> None:
    listed = source.listed("a.jpg")
    await catalog.imported_assets.apply([listed])
    await make(catalog, await _get(catalog, listed.id), FileKind.THUMBNAIL)
    await catalog.imported_assets.apply([moved(listed, "b.jpg")])
    assert set(await catalog.derivatives.get_for_asset(listed.id)) == {FileKind.THUMBNAIL}

    await catalog.imported_assets.apply([moved(edited(listed), "b.jpg")])

    assert not await catalog.derivatives.get_for_asset(listed.id)
    assert await catalog.tasks.get_for_asset(listed.id) is not None


async def test_bytes_that_are_not_those_of_the_source_take_no_checksum(catalog: Catalog, source: Source) -> None:
    """A whole photo with that checksum is no duplicate of them, and what the source says does not bring the checksum back."""
    content = b"whole"
    recorded = hashlib.sha1(content).digest()
    asset = source.uploaded("a.jpg", recorded)
    await catalog.imported_assets.apply([asset])

    assert not await catalog.foreign_files.store_checksums(asset.original.id, asset.original.path, SIZE, b"2" * 20, 2)

    current = await _get(catalog, asset.id)
    assert (current.checksum, current.file.sha1) == (None, recorded)
    whole = await upload(catalog, source.owner_id, content=content)
    for again in (asset, moved(asset, "b.jpg"), asset):
        changes = await catalog.imported_assets.apply([again])
        assert (changes.checksum_conflicts, changes.refused) == ([], set())
        assert (await _get(catalog, asset.id)).checksum is None
    assert (await _get(catalog, whole.id)).checksum == recorded

    assert await catalog.foreign_files.store_checksums(asset.original.id, asset.original.path, SIZE, recorded, 1)
    assert (await _get(catalog, asset.id)).checksum is None, "the upload has it"


async def test_a_file_that_was_mended_has_its_checksum_again(catalog: Catalog, source: Source) -> None:
    asset = source.uploaded("a.jpg", b"1" * 20)
    await catalog.imported_assets.apply([asset])
    assert not await catalog.foreign_files.store_checksums(asset.original.id, asset.original.path, SIZE, b"2" * 20, 2)
    assert await catalog.foreign_files.store_checksums(asset.original.id, asset.original.path, SIZE, b"1" * 20, 1)
    assert (await _get(catalog, asset.id)).checksum == b"1" * 20
    assert asset.id in (await catalog.imported_assets.apply([asset])).unchanged


async def test_what_was_read_where_another_photo_lies_by_now_disproves_no_checksum(
    catalog: Catalog, source: Source
) -> None:
    """The source moved the files, and the rows here name the former paths for a while."""
    asset = source.uploaded("a.jpg", b"1" * 20)
    await catalog.imported_assets.apply([asset])
    read_at = asset.original.path
    assert not await catalog.foreign_files.store_checksums(asset.original.id, read_at, SIZE, b"2" * 20, 2)
    assert (await _get(catalog, asset.id)).checksum is None

    await catalog.imported_assets.apply([moved(asset, "b.jpg")])
    assert (await _get(catalog, asset.id)).checksum == b"1" * 20
    assert await catalog.tasks.get_for_asset(asset.id) is not None

    assert not await catalog.foreign_files.store_checksums(asset.original.id, read_at, SIZE, b"2" * 20, 2)
    assert (await _get(catalog, asset.id)).checksum == b"1" * 20


async def test_a_checksum_that_was_found_out_here_stays_until_another_upload_has_it(
    catalog: Catalog, source: Source
) -> None:
    unknown = source.uploaded("a.jpg", None)
    await catalog.imported_assets.apply([unknown])
    assert await catalog.foreign_files.store_checksums(unknown.original.id, unknown.original.path, SIZE, b"1" * 20, 1)
    assert (await _get(catalog, unknown.id)).checksum == b"1" * 20
    assert unknown.id in (await catalog.imported_assets.apply([unknown])).unchanged
    assert (await _get(catalog, unknown.id)).checksum == b"1" * 20

    other = source.uploaded("b.jpg", b"1" * 20)
    assert await catalog.imported_assets.find_holders([other]) == {unknown.id}
    changes = await catalog.imported_assets.apply([other, unknown])

    assert not changes.refused
    assert (await _get(catalog, unknown.id)).checksum is None
    assert (await _get(catalog, other.id)).checksum == b"1" * 20


async def test_an_asset_that_comes_back_has_its_checksum(catalog: Catalog, source: Source) -> None:
    asset = source.uploaded("a.jpg", b"1" * 20)
    await catalog.imported_assets.apply([asset])
    await catalog.vanished_assets.release([asset.id])
    assert (await _get(catalog, asset.id)).checksum is None
    await catalog.imported_assets.apply([asset])
    assert (await _get(catalog, asset.id)).checksum == b"1" * 20


async def test_a_file_whose_new_path_is_taken_keeps_its_own_for_itself(catalog: Catalog, source: Source) -> None:
    """The preview of the first asset wants the path of the second one's, which wants that of a third one, which stays."""
    first, second, third = (source.uploaded(f"{number}.jpg", bytes([number]) * 20) for number in range(3))
    paths = dict(zip((first.id, second.id, third.id), ("a.jpg", "b.jpg", "c.jpg"), strict=True))
    await catalog.imported_assets.apply([with_preview(each, paths[each.id]) for each in (first, second, third)])

    changes = await catalog.imported_assets.apply([with_preview(first, "b.jpg"), with_preview(second, "c.jpg")])

    assert sorted(changes.path_conflicts) == [f"{ROOT}/b.jpg", f"{ROOT}/c.jpg"]
    for asset_id, name in paths.items():
        made = await catalog.derivatives.get_for_asset(asset_id)
        assert made[FileKind.PREVIEW].file.path == f"{ROOT}/{name}"


async def test_what_is_ours_beside_a_vanished_asset_stays_where_it_is(catalog: Catalog, source: Source) -> None:
    asset = with_preview(source.uploaded("a.jpg", b"1" * 20), "b.jpg")
    await catalog.imported_assets.apply([asset])
    await make(catalog, await _get(catalog, asset.id), FileKind.THUMBNAIL)
    before = await catalog.derivatives.get_for_asset(asset.id)

    await catalog.vanished_assets.release([asset.id])

    after = await catalog.derivatives.get_for_asset(asset.id)
    assert after[FileKind.THUMBNAIL] == before[FileKind.THUMBNAIL]
    assert after[FileKind.PREVIEW].file.path == f"{ROOT}/b.jpg/{asset.derivatives[0].id}"
    assert (await _get(catalog, asset.id)).file.path == f"{ROOT}/a.jpg/{asset.original.id}"


async def test_what_the_source_has_made_no_longer_is_made_here(catalog: Catalog, source: Source) -> None:
    asset = source.uploaded("a.jpg", b"1" * 20)
    await catalog.imported_assets.apply([with_preview(asset, "b.jpg")])
    task = await catalog.tasks.get_for_asset(asset.id)

    changes = await catalog.imported_assets.apply([asset])

    assert changes.to_process == [(asset.id, asset.type)]
    assert not await catalog.derivatives.get_for_asset(asset.id)
    assert await catalog.tasks.get_for_asset(asset.id) != task


async def test_a_preview_in_another_format_has_its_type(catalog: Catalog, source: Source) -> None:
    """Immich makes previews anew when its settings change. The type of an original is found in its content."""
    asset = source.uploaded("a.jpg", b"1" * 20)
    await catalog.imported_assets.apply([with_preview(asset, "a.jpeg")])
    again = moved(with_preview(asset, "a.webp", "image/webp"), "b.png")
    await catalog.imported_assets.apply([replace(again, original=replace(again.original, mime_type="image/png"))])
    made = await catalog.derivatives.get_for_asset(asset.id)
    assert made[FileKind.PREVIEW].file.mime_type == "image/webp"
    assert (await _get(catalog, asset.id)).file.mime_type == "image/jpeg"
