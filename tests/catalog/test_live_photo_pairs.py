"""Photos and videos with one content identifier are paired, in whatever order they are read, and never two photos with one video."""

from __future__ import annotations

import asyncio
import itertools
import random
from uuid import UUID

import pytest
from sqlalchemy import update

from app.catalog.assets.derivatives import ExtractedProperties
from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from app.catalog.schema.records import Asset, AssetChanges, AssetType, Visibility
from tests.catalog.rows import make_user, upload

IMAGE, VIDEO = AssetType.IMAGE, AssetType.VIDEO
CID = "60F91F0A-8D4B-4B1E-9A1E-0F0B6E6C3B4A"


async def read(catalog: Catalog, asset: Asset, identifier: object = CID) -> None:
    """Store metadata with this content identifier, as processing does."""
    exif: dict[str, object] = {} if identifier is None else {"livePhotoCID": identifier}
    assert await catalog.derivatives.swap_files(asset.owner_id, asset.id, [], ExtractedProperties(exif=exif))


async def add(catalog: Catalog, owner: UUID, name: str, identifier: object = CID) -> Asset:
    kind = VIDEO if name.lower().endswith((".mov", ".mp4")) else IMAGE
    asset = await upload(catalog, owner, type=kind, original_file_name=name)
    await read(catalog, asset, identifier)
    return asset


async def pairs(catalog: Catalog, owner: UUID) -> dict[str, str | None]:
    """The video of each photo, and the visibility of each video, by name."""
    async with catalog.engine.connect() as connection:
        rows = (await connection.execute(tables.asset.select().where(tables.asset.c.owner_id == owner))).all()
    names = {row.id: row.original_file_name for row in rows}
    return {
        row.original_file_name: row.visibility.value if row.type is VIDEO else names.get(row.live_photo_video_id)
        for row in rows
    }


@pytest.mark.parametrize("names", [("IMG_1.HEIC", "IMG_1.MOV"), ("IMG_1.MOV", "IMG_1.HEIC")], ids=lambda one: one[0])
async def test_whichever_comes_first_the_photo_shows_the_video(catalog: Catalog, names: tuple[str, str]) -> None:
    user = (await make_user(catalog)).id
    for name in names:
        await add(catalog, user, name)
    expected = {"IMG_1.HEIC": "IMG_1.MOV", "IMG_1.MOV": "hidden"}
    assert await pairs(catalog, user) == expected

    for asset in (await catalog.assets.get_page(user))[0]:
        await read(catalog, asset)
    assert await pairs(catalog, user) == expected


async def test_a_video_is_shown_by_one_photo_and_by_the_next_when_that_goes(catalog: Catalog) -> None:
    user = (await make_user(catalog)).id
    first = await add(catalog, user, "a.heic")
    await add(catalog, user, "b.heic")
    video = await add(catalog, user, "c.mov")
    assert await pairs(catalog, user) == {"a.heic": "c.mov", "b.heic": None, "c.mov": "hidden"}

    await catalog.assets.update(user, video.id, AssetChanges(is_favorite=True))
    await catalog.assets.delete(user, [first.id])

    assert await pairs(catalog, user) == {"b.heic": "c.mov", "c.mov": "hidden"}


async def test_a_photo_whose_video_goes_shows_another_one(catalog: Catalog) -> None:
    user = (await make_user(catalog)).id
    await add(catalog, user, "a.heic")
    video = await add(catalog, user, "a.mov")
    await add(catalog, user, "b.mov")
    assert await pairs(catalog, user) == {"a.heic": "a.mov", "a.mov": "hidden", "b.mov": "timeline"}

    await catalog.assets.delete(user, [video.id])

    assert await pairs(catalog, user) == {"a.heic": "b.mov", "b.mov": "hidden"}


async def test_edited_copies_go_with_the_video_of_their_name(catalog: Catalog, seed: int) -> None:
    names = ("IMG_1.HEIC", "IMG_E1.HEIC", "img_1.mov", "IMG_E1.MOV")
    orders = random.Random(seed).sample(list(itertools.permutations(names)), 6)
    for order in orders:
        user = (await make_user(catalog)).id
        for name in order:
            await add(catalog, user, name)
        assert await pairs(catalog, user) == {
            "IMG_1.HEIC": "img_1.mov",
            "IMG_E1.HEIC": "IMG_E1.MOV",
            "img_1.mov": "hidden",
            "IMG_E1.MOV": "hidden",
        }, order


@pytest.mark.parametrize("changed", ["photo", "video"])
@pytest.mark.parametrize("identifier", ["another", None])
async def test_a_pair_ends_when_one_of_it_changes(catalog: Catalog, changed: str, identifier: str | None) -> None:
    user = (await make_user(catalog)).id
    both = {"photo": await add(catalog, user, "a.heic"), "video": await add(catalog, user, "a.mov")}
    await add(catalog, user, "spare.heic")

    await read(catalog, both[changed], identifier)

    follower = "a.mov" if changed == "photo" else None
    visibility = "hidden" if changed == "photo" else "timeline"
    assert await pairs(catalog, user) == {"a.heic": None, "spare.heic": follower, "a.mov": visibility}
    await read(catalog, both[changed])
    kept = await pairs(catalog, user)
    assert sorted(video for video in (kept["a.heic"], kept["spare.heic"]) if video) == ["a.mov"]
    assert kept["a.mov"] == "hidden"


async def test_only_what_belongs_together_is_paired(catalog: Catalog) -> None:
    user, other = (await make_user(catalog)).id, (await make_user(catalog)).id
    library = await catalog.libraries.create(user, "NAS", ("/nas",), ())
    await add(catalog, other, "a.mov")
    external = await add(catalog, user, "external.mov", None)
    async with catalog.database.write() as connection:
        moved = update(tables.asset).where(tables.asset.c.id == external.id)
        await connection.execute(moved.values(library_id=library.id))
    await read(catalog, external)
    locked = await add(catalog, user, "locked.mov", None)
    await catalog.assets.update(user, locked.id, AssetChanges(visibility=Visibility.LOCKED))
    await read(catalog, locked)
    for number, identifier in enumerate((7, "", "x" * 100_000, ["x"])):
        await add(catalog, user, f"odd{number}.mov", identifier)
        await add(catalog, user, f"odd{number}.heic", identifier)

    await add(catalog, user, "a.heic")

    found = await pairs(catalog, user)
    assert {value for name, value in found.items() if name.endswith(".heic")} == {None}
    assert {value for name, value in found.items() if name.endswith(".mov")} == {"timeline", "locked"}


async def test_what_is_in_the_trash_is_paired_when_it_is_restored(catalog: Catalog) -> None:
    user = (await make_user(catalog)).id
    for name, restored in (("a.heic", True), ("b.heic", False)):
        photo = await add(catalog, user, name, name)
        await catalog.assets.trash(user, [photo.id])
        await add(catalog, user, f"{name}.mov", name)
        assert (await pairs(catalog, user))[f"{name}.mov"] == "timeline"
        await catalog.assets.restore(user, [photo.id] if restored else None)
        assert (await pairs(catalog, user))[name] == f"{name}.mov"


async def test_a_link_made_by_hand_stays(catalog: Catalog) -> None:
    user = (await make_user(catalog)).id
    photo, video = await add(catalog, user, "a.heic"), await add(catalog, user, "a.mov")
    await catalog.assets.update(user, photo.id, AssetChanges(live_photo_video_id=None))
    await read(catalog, photo)
    await read(catalog, video)
    assert await pairs(catalog, user) == {"a.heic": None, "a.mov": "timeline"}

    chosen = await add(catalog, user, "chosen.mov", None)
    by_client = await upload(catalog, user, original_file_name="c.heic", live_photo_video_id=chosen.id)
    await read(catalog, by_client)
    await add(catalog, user, "c.mov")
    assert await pairs(catalog, user) == {
        "a.heic": None,
        "a.mov": "timeline",
        "chosen.mov": "hidden",
        "c.heic": "chosen.mov",
        "c.mov": "timeline",
    }


async def test_many_that_are_read_at_once_are_paired_one_to_one(catalog: Catalog, seed: int) -> None:
    user = (await make_user(catalog)).id
    assets = [
        await upload(catalog, user, type=kind, original_file_name=f"{number}-{copy}.{kind.value.lower()}")
        for number in range(4)
        for copy in range(2)
        for kind in (IMAGE, VIDEO)
    ]
    random.Random(seed).shuffle(assets)

    async with asyncio.timeout(60):
        await asyncio.gather(*(read(catalog, asset, asset.original_file_name[0]) for asset in assets * 2))

    found = await pairs(catalog, user)
    assert found == {
        **{f"{number}-{copy}.image": f"{number}-{copy}.video" for number in range(4) for copy in range(2)},
        **{f"{number}-{copy}.video": "hidden" for number in range(4) for copy in range(2)},
    }
