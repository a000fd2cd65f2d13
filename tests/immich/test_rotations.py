"""Assets that exchange their paths in a circle, over several pages, have their own paths again after one run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from app.catalog.catalog import Catalog
from tests.immich.conftest import MakeInstallation
from tests.immich.installation import Installation
from tests.immich.runs import PAGE_ROWS, import_all, run
from tests.immich.tables import Generation


@pytest.fixture(scope="module")
def rotated(make_installation: MakeInstallation) -> Installation:
    return make_installation(Generation.V3, assets=30)


@pytest.fixture
async def imported(rotated: Installation, tmp_path: Path) -> AsyncIterator[Catalog]:
    async with import_all(rotated, tmp_path) as catalog:
        yield catalog


def rotate(installation: Installation, table: str, column: str, rows: list[tuple[UUID, str]]) -> dict[UUID, str]:
    """Each row gets the path of the next one, and the file with it. Returns the new paths by the rows' ids."""
    following = {row_id: rows[(number + 1) % len(rows)][1] for number, (row_id, _) in enumerate(rows)}
    for row_id, path in rows:
        installation.to_host(path).rename(installation.to_host(path).with_name(str(row_id)))
    for row_id, path in rows:
        target = installation.to_host(following[row_id])
        installation.to_host(path).with_name(str(row_id)).rename(target)
        installation.execute(f'UPDATE {table} SET "{column}" = %s WHERE id = %s', [following[row_id], row_id])
    return following


@pytest.mark.parametrize("is_follow", [False, True], ids=["import", "follow"])
async def test_originals_change_their_paths_in_a_circle(
    imported: Catalog, rotated: Installation, *, is_follow: bool
) -> None:
    rows = rotated.execute(
        'SELECT id, "originalPath" FROM asset WHERE id = ANY(%s) AND "libraryId" IS NULL AND type = \'IMAGE\' ORDER BY id',
        [rotated.plain],
    )
    assert len(rows) > 3 * PAGE_ROWS
    expected = rotate(rotated, "asset", "originalPath", rows)  # pyright: ignore[reportArgumentType]

    before = (await run(imported, rotated, is_follow=is_follow)).problems.counts

    for asset_id, path in expected.items():
        asset = await imported.assets.get(asset_id)
        assert asset is not None
        assert asset.file.path == str(rotated.to_host(path))
        assert asset.file.sha1 == asset.checksum
    again = await run(imported, rotated)
    assert again.changed == 0
    assert again.problems.counts == before


async def test_files_beside_originals_change_their_paths_in_a_circle(imported: Catalog, rotated: Installation) -> None:
    rows = rotated.execute(
        'SELECT id, path FROM asset_file WHERE "assetId" = ANY(%s) AND type = \'preview\' ORDER BY "assetId"',
        [rotated.plain],
    )
    assert len(rows) > 3 * PAGE_ROWS
    expected = rotate(rotated, "asset_file", "path", rows)  # pyright: ignore[reportArgumentType]

    await run(imported, rotated)

    owners = dict(rotated.execute("SELECT id, \"assetId\" FROM asset_file WHERE type = 'preview'"))
    for file_id, path in expected.items():
        made = await imported.derivatives.get_for_asset(owners[file_id])
        assert str(rotated.to_host(path)) in {derivative.file.path for derivative in made.values()}
    assert (await run(imported, rotated)).changed == 0
