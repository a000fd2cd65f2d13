"""Persons' thumbnails and users' profile images are replaced as derivatives are, and removed with the asset they were
cut from."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from app.catalog.catalog import Catalog
from app.catalog.errors import NotFound, WriteLeaseLost
from app.catalog.schema.records import FileKind, FileState
from tests.catalog.rows import begin, file_states, make_user, stored, upload, used_bytes


async def test_persons_have_names_of_their_own(catalog: Catalog) -> None:
    user, other = await make_user(catalog), await make_user(catalog)
    anna, bert = await catalog.persons.create(user.id, "Anna"), await catalog.persons.create(user.id)

    renamed = await catalog.persons.rename(user.id, bert.id, "Bert")

    assert renamed is not None
    assert await catalog.persons.list(user.id) == [anna, renamed]
    assert renamed.name == "Bert"
    assert await catalog.persons.get_owned(user.id, anna.id) == anna
    assert await catalog.persons.get_owned(other.id, anna.id) is None
    assert await catalog.persons.rename(other.id, anna.id, "Mine") is None
    assert not await catalog.persons.delete(other.id, anna.id)
    assert await catalog.persons.delete(user.id, anna.id)
    assert await catalog.persons.list(user.id) == [renamed]
    with pytest.raises(NotFound):
        await catalog.persons.create(uuid4())


async def test_a_new_thumbnail_dooms_the_old_one_and_the_late_one(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id, size=10)
    person = await catalog.persons.create(user.id)
    old, new, late = [stored(await begin(catalog, user.id, FileKind.PERSON)) for _ in range(3)]

    assert await catalog.persons.replace_thumbnail(user.id, person.id, asset.id, None, old)
    assert await catalog.persons.replace_thumbnail(user.id, person.id, asset.id, old.file_id, new)
    assert not await catalog.persons.replace_thumbnail(user.id, person.id, asset.id, old.file_id, late)

    shown = await catalog.persons.get_owned(user.id, person.id)
    assert shown is not None
    assert (shown.thumbnail_file_id, shown.thumbnail_asset_id) == (new.file_id, asset.id)
    found = await file_states(catalog)
    assert [found[file.file_id] for file in (old, new, late)] == [FileState.DOOMED, FileState.LIVE, FileState.DOOMED]
    assert await used_bytes(catalog, user.id) == 10


@pytest.mark.parametrize("gone", ["asset", "person"])
async def test_a_thumbnail_goes_with_the_photo_and_with_the_person(catalog: Catalog, gone: str) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    person = await catalog.persons.create(user.id, "Anna")
    thumbnail = stored(await begin(catalog, user.id, FileKind.PERSON))
    await catalog.persons.replace_thumbnail(user.id, person.id, asset.id, None, thumbnail)

    if gone == "asset":
        await catalog.assets.delete(user.id, [asset.id])
        left = await catalog.persons.get_owned(user.id, person.id)
        assert left is not None
        assert (left.name, left.thumbnail_file_id, left.thumbnail_asset_id) == ("Anna", None, None)
    else:
        await catalog.persons.delete(user.id, person.id)

    assert (await file_states(catalog))[thumbnail.file_id] is FileState.DOOMED


@pytest.mark.parametrize("wrong", ["person", "asset", "lease"])
async def test_a_thumbnail_that_cannot_be_shown_is_doomed(catalog: Catalog, wrong: str) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    person = await catalog.persons.create(user.id)
    thumbnail = stored(await begin(catalog, user.id, FileKind.PERSON))
    if wrong == "lease":
        await catalog.files.mark_for_deletion(thumbnail.file_id)

    with pytest.raises(WriteLeaseLost if wrong == "lease" else NotFound):
        await catalog.persons.replace_thumbnail(
            user.id,
            uuid4() if wrong == "person" else person.id,
            uuid4() if wrong == "asset" else asset.id,
            None,
            thumbnail,
        )

    assert (await file_states(catalog))[thumbnail.file_id] is FileState.DOOMED
    assert await catalog.persons.get_owned(user.id, person.id) == person


async def test_profile_images_come_are_replaced_and_go(catalog: Catalog) -> None:
    user = await make_user(catalog)
    first, second = [stored(await begin(catalog, user.id, FileKind.PROFILE)) for _ in range(2)]

    assert await catalog.persons.replace_profile_image(user.id, None, first)
    with_first = await catalog.users.get(user.id)
    assert await catalog.persons.replace_profile_image(user.id, first.file_id, second)
    assert not await catalog.persons.replace_profile_image(user.id, first.file_id, None)
    with_second = await catalog.users.get(user.id)
    assert await catalog.persons.replace_profile_image(user.id, second.file_id, None)
    without = await catalog.users.get(user.id)

    assert with_first is not None
    assert with_second is not None
    assert without is not None
    shown = [each.profile_file_id for each in (with_first, with_second, without)]
    assert shown == [first.file_id, second.file_id, None]
    assert with_first.profile_changed_at is not None
    assert with_second.profile_changed_at is not None
    assert with_first.profile_changed_at < with_second.profile_changed_at
    assert set((await file_states(catalog)).values()) == {FileState.DOOMED}
    with pytest.raises(NotFound):
        await catalog.persons.replace_profile_image(uuid4(), None, None)


async def test_of_many_profile_images_at_once_one_stays(catalog: Catalog) -> None:
    user = await make_user(catalog)
    files = [stored(await begin(catalog, user.id, FileKind.PROFILE)) for _ in range(6)]

    results = await asyncio.gather(*(catalog.persons.replace_profile_image(user.id, None, file) for file in files))

    assert results.count(True) == 1
    shown = await catalog.users.get(user.id)
    assert shown is not None
    assert shown.profile_file_id == files[results.index(True)].file_id
    assert list((await file_states(catalog)).values()).count(FileState.LIVE) == 1
