"""Assets that are taken over, batch by batch: what their files, names and checksums are afterwards."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from tests.catalog.imports.batches import ROOT, Source, moved


async def _list_names(catalog: Catalog) -> dict[UUID, str]:
    """The name of each file that a library lists, by the asset's id."""
    listed = select(tables.library_file.c.asset_id, tables.library_file.c.name)
    async with catalog.database.read() as connection:
        return {row.asset_id: row.name for row in await connection.execute(listed)}


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
