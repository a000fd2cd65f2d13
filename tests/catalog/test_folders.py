"""The assets of a folder, in pages."""

from __future__ import annotations

import pytest

from app.catalog.browsing import folders
from app.catalog.catalog import Catalog
from tests.catalog.rows import make_user
from tests.real.generated_rows import insert_assets
from tests.real.sql_statements import record_statements

ASSETS = 1200
SHOWN = ASSETS * 19 // 20
"""One of twenty is archived."""


async def test_a_large_folder_is_searched_for_once(catalog: Catalog) -> None:
    """Each search reads all of the user's assets: one for each page made the time grow with the square of their number."""
    owner = (await make_user(catalog)).id
    await insert_assets(catalog, owner, ASSETS)
    with record_statements() as sent:
        pages = [page async for page in catalog.folders.iter_folder(owner, "/media/upload/")]
    assert len([each for each in sent if "rtrim" in each.text]) == 1
    paths = [asset.file.path for page in pages for asset in page]
    assert len(pages) > 1
    assert len(set(paths)) == len(paths) == SHOWN
    assert paths == sorted(paths)


@pytest.mark.parametrize("at_once", [1, SHOWN // 2, SHOWN - 1, SHOWN])
async def test_a_folder_that_is_larger_than_one_search_is_whole(
    catalog: Catalog, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, other = [(await make_user(catalog)).id for _ in range(2)]
    count = 40 if at_once == 1 else ASSETS
    monkeypatch.setattr(folders, "IDS_AT_ONCE", at_once)
    await insert_assets(catalog, owner, count)
    await insert_assets(catalog, other, 40, first=count)
    found = [asset.file.path async for page in catalog.folders.iter_folder(owner, "/media/upload") for asset in page]
    assert found == sorted(set(found))
    assert len(found) == count * 19 // 20


async def test_what_is_trashed_while_a_folder_is_read_is_left_out(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "IDS_AT_ONCE", 600)
    owner = (await make_user(catalog)).id
    await insert_assets(catalog, owner, ASSETS)
    everything = {asset.id async for page in catalog.folders.iter_folder(owner, "/media/upload") for asset in page}
    pages = catalog.folders.iter_folder(owner, "/media/upload")
    seen = {asset.id for asset in await anext(aiter(pages))}
    await catalog.assets.trash(owner, everything)
    assert [asset async for page in pages for asset in page] == []
    assert seen


async def test_a_folder_of_nobody_is_empty(catalog: Catalog) -> None:
    owner = (await make_user(catalog)).id
    assert [page async for page in catalog.folders.iter_folder(owner, "/media/upload")] == [[]]
