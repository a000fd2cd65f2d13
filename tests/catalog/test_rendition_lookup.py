"""Lookup of the files that delivery serves for assets, persons and users."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from app.catalog.assets.asset_removal import REPLACED_FILE_GRACE
from app.catalog.catalog import Catalog
from app.catalog.files import CLAIM_DURATION
from app.catalog.schema.records import AssetType, FileKind, TaskState
from tests.catalog.rows import LEASE, begin, make, make_user, stored, task_of, upload


async def test_an_asset_comes_with_all_that_was_made_of_it_and_how_far_that_is(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset, other = await upload(catalog, user.id), await upload(catalog, user.id)
    _, made = await make(catalog, asset, FileKind.PREVIEW, FileKind.THUMBNAIL)
    await make(catalog, other, FileKind.FULLSIZE)

    found = await catalog.renditions.get_for_asset(asset.id)

    assert found is not None
    assert {kind: file.id for kind, file in found.files.items()} == made
    assert found.asset == await catalog.assets.get(asset.id)
    assert found.processing is not None
    assert (found.processing.state, found.processing.error) == (TaskState.PENDING, None)
    assert await catalog.renditions.get_for_asset(uuid4()) is None


async def test_an_asset_of_which_nothing_is_made(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id, type=AssetType.OTHER)

    found = await catalog.renditions.get_for_asset(asset.id)

    assert found is not None
    assert (found.asset.id, found.files, found.processing) == (asset.id, {}, None)


async def test_the_reason_is_there_once_an_asset_was_given_up(catalog: Catalog) -> None:
    user = await make_user(catalog)
    broken, retried, fine = [await upload(catalog, user.id) for _ in range(3)]
    for asset in (broken, retried):
        task, run = await task_of(catalog, asset), uuid4()
        assert await catalog.tasks.claim(task.id, run, LEASE)
        retry_at = task.created_at + timedelta(hours=1) if asset is retried else None
        assert await catalog.tasks.fail(task.id, run, "it is torn", retry_at)

    assert await catalog.renditions.get_failure_reasons([broken.id, retried.id, fine.id, uuid4()]) == {
        broken.id: "it is torn"
    }
    assert await catalog.renditions.get_failure_reasons([]) == {}
    found = await catalog.renditions.get_for_asset(broken.id)
    assert found is not None
    assert found.processing is not None
    assert (found.processing.state, found.processing.error) == (TaskState.FAILED, "it is torn")


async def test_portraits_of_persons_and_users(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    person = await catalog.persons.get_or_create(user.id, uuid4())
    assert person is not None
    assert await catalog.renditions.get_for_person(person.id) is None
    assert await catalog.renditions.get_for_user(user.id) is None
    face = stored(await begin(catalog, user.id, FileKind.PERSON))
    image = stored(await begin(catalog, user.id, FileKind.PROFILE))
    await catalog.persons.replace_thumbnail(user.id, person.id, asset.id, None, face)
    await catalog.persons.replace_profile_image(user.id, None, image)

    shown, own = await catalog.renditions.get_for_person(person.id), await catalog.renditions.get_for_user(user.id)

    assert shown is not None
    assert own is not None
    assert (shown.owner_id, shown.file.id, shown.file.sha1) == (user.id, face.file_id, face.sha1)
    assert (own.owner_id, own.file.id) == (user.id, image.file_id)


async def test_a_person_is_made_where_there_is_none_and_stays_its_owners(catalog: Catalog) -> None:
    user, other = await make_user(catalog), await make_user(catalog)
    person_id = uuid4()

    made = await catalog.persons.get_or_create(user.id, person_id)

    assert made is not None
    assert made.id == person_id
    assert await catalog.persons.get_or_create(user.id, person_id) == made
    assert await catalog.persons.get_or_create(other.id, person_id) is None
    assert await catalog.persons.list(other.id) == []


async def test_what_was_replaced_is_kept_for_those_who_are_being_sent_it(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    person = await catalog.persons.create(user.id)
    _, old = await make(catalog, asset, FileKind.PREVIEW)
    await make(catalog, asset, FileKind.PREVIEW, seen=old)
    faces = [stored(await begin(catalog, user.id, FileKind.PERSON)) for _ in range(2)]
    await catalog.persons.replace_thumbnail(user.id, person.id, asset.id, None, faces[0])
    await catalog.persons.replace_thumbnail(user.id, person.id, asset.id, faces[0].file_id, faces[1])
    replaced = {old[FileKind.PREVIEW], faces[0].file_id}
    moment = (await task_of(catalog, asset)).created_at

    early = await catalog.files.claim_sweepable(moment + REPLACED_FILE_GRACE - CLAIM_DURATION, 10)
    late = await catalog.files.claim_sweepable(moment + REPLACED_FILE_GRACE + CLAIM_DURATION, 10)

    assert early == []
    assert {file.id for file in late} == replaced
    await catalog.assets.delete(user.id, [asset.id])
    rest = await catalog.files.claim_sweepable(moment + CLAIM_DURATION, 10)
    assert asset.file.id in {file.id for file in rest}, "what is deleted goes at once"
    assert faces[1].file_id in {file.id for file in rest}
