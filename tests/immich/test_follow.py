"""`mediavault immich follow`: what changes at Immich changes here; what it has no more goes to the trash, and never further."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from uuid import UUID

import bcrypt
import pytest
from sqlalchemy import update

from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from app.catalog.schema.records import Asset
from tests.api.consistency import differences, read_state
from tests.immich.conftest import COMBINATION_IDS, COMBINATIONS, MakeTakeover
from tests.immich.installation import PASSWORD, PASSWORD_HASH
from tests.immich.playing import Player
from tests.immich.takeover import Takeover
from tests.real.notes import Note

ONCE = ("follow", "--once")
ALL = (*ONCE, "--compare-every", "0")
PLAYED, SOAK_PLAYED = 60, 3000
ROUNDS_AT_LEAST = 3


@pytest.fixture(scope="module")
def followed(make_takeover: MakeTakeover) -> Iterator[Takeover]:
    """Imported, and served. Each test changes something else."""
    takeover = make_takeover("v3-s3", assets=40)
    takeover.report("import")
    takeover.service.start()
    yield takeover
    takeover.service.stop()
    assert_consistent(takeover)


@pytest.fixture(scope="module")
def player(followed: Takeover, run_seed: int) -> Player:
    return Player(followed.installation, run_seed)


def read_assets(takeover: Takeover) -> dict[UUID, Asset]:
    """All assets of our catalogue."""

    async def read(catalog: Catalog) -> dict[UUID, Asset]:
        found: dict[UUID, Asset] = {}
        for user in await catalog.users.list():
            ids = await catalog.vanished_assets.get_page(UUID(int=0), 100_000)
            found |= await catalog.assets.get_many_owned(user.id, ids)
        return found

    return takeover.service.people.call(read)


def assert_agreement(takeover: Takeover) -> None:
    """Each asset of Immich's whose file is there is as in its row, and what Immich has no more is in the trash."""
    installation = takeover.installation
    rows = installation.execute(
        'SELECT a.id, "originalPath", checksum, "isFavorite", visibility::text, a."deletedAt" IS NOT NULL, description, "libraryId" '
        'FROM asset AS a JOIN asset_exif ON "assetId" = a.id WHERE a.id = ANY(%s)',
        [installation.plain],
    )
    assets = read_assets(takeover)
    for asset_id, path, checksum, is_favorite, visibility, is_trashed, description, library_id in rows:
        asset = assets[asset_id]
        assert asset.file.path == str(installation.to_host(path))
        assert library_id is not None or asset.checksum == checksum
        assert asset.file.size == len(installation.contents[asset_id])
        assert (asset.is_favorite, asset.visibility.value, asset.deleted_at is not None) == (
            is_favorite,
            visibility,
            is_trashed,
        )
        assert (asset.exif or {}).get("description", "") == description
    there = {row[0] for row in installation.execute("SELECT id FROM asset")}
    assert all(asset.deleted_at is not None for asset_id, asset in assets.items() if asset_id not in there)


def assert_consistent(takeover: Takeover) -> None:
    """Catalogue and storage agree, but for the files of assets that Immich has deleted: those are in the trash."""
    there = {row[0] for row in takeover.installation.execute("SELECT id FROM asset")}
    vanished = [asset for asset_id, asset in read_assets(takeover).items() if asset_id not in there]
    assert all(asset.deleted_at is not None for asset in vanished)

    async def read(catalog: Catalog) -> set[str]:
        made = await catalog.derivatives.get_for_assets(asset.id for asset in vanished)
        sidecars = [await catalog.files.get(asset.sidecar_id) for asset in vanished if asset.sidecar_id is not None]
        paths = {derivative.file.path for kinds in made.values() for derivative in kinds.values()}
        return paths | {asset.file.path for asset in vanished} | {file.path for file in sidecars if file is not None}

    gone = {f"live, but not stored: {path}" for path in takeover.service.people.call(read)}
    found = differences(read_state(takeover.service.stack), exact=False)
    assert not set(found) - gone, found


def test_new_and_changed_assets_come_over(followed: Takeover, player: Player) -> None:
    added = player.add(owner="ada")
    player.favourite()
    player.describe()
    player.hide()
    player.trash()
    report = followed.report(*ONCE)
    assert report["new"] == 1
    assert report["changed"] >= 2
    assert_agreement(followed)
    with followed.client("ada") as client:
        assert client.get(f"/api/assets/{added}/original").content == followed.installation.contents[added]


def test_an_asset_that_was_moved_keeps_its_identity(followed: Takeover, player: Player) -> None:
    before = read_assets(followed)
    player.rename()
    player.exchange_paths()
    report = followed.report(*ONCE)
    assert report["new"] == 0
    assert_agreement(followed)
    after = read_assets(followed)
    assert {asset.id: asset.file.id for asset in after.values()} == {
        asset.id: asset.file.id for asset in before.values()
    }
    assert {asset.file.path for asset in after.values()} != {asset.file.path for asset in before.values()}


def test_what_vanished_goes_to_the_trash_and_no_further(followed: Takeover, player: Player) -> None:
    there = set(followed.installation.plain)
    player.restore()
    assert player.delete() is not None
    (gone,) = there - set(followed.installation.plain)
    was_shown = read_assets(followed)[gone].deleted_at is None
    assert followed.report(*ONCE)["trashed"] == was_shown
    assert followed.report(*ALL)["trashed"] == 0
    assert read_assets(followed)[gone].deleted_at is not None
    assert_agreement(followed)


@pytest.mark.parametrize("is_trashed", [False, True], ids=["shown", "trashed before"])
@pytest.mark.parametrize("look", [ONCE, ALL], ids=["look", "comparison"])
def test_an_upload_of_what_immich_has_deleted_for_good_is_kept(
    followed: Takeover, player: Player, look: tuple[str, ...], is_trashed: bool
) -> None:
    """The bytes are nowhere else: to answer it as a duplicate would lose them."""
    own = followed.installation
    if is_trashed:
        own.execute("UPDATE asset SET \"deletedAt\" = now(), status = 'trashed' WHERE id = ANY(%s)", [own.plain])
    else:
        own.execute("UPDATE asset SET \"deletedAt\" = NULL, status = 'active' WHERE id = ANY(%s)", [own.plain])
    followed.report(*ONCE)
    owners = {asset_id: followed.owner_of(asset_id) for asset_id in own.plain}
    content = player.delete()
    assert content is not None
    (gone,) = owners.keys() - set(own.plain)
    own.execute("UPDATE asset SET \"deletedAt\" = NULL, status = 'active' WHERE id = ANY(%s)", [own.plain])
    followed.report(*look)
    with followed.own_client(owners[gone]) as client:
        moment = "2026-05-01T10:00:00.000Z"
        kept = client.post(
            "/api/assets",
            files={"assetData": ("again.jpg", content)},
            data={"fileCreatedAt": moment, "fileModifiedAt": moment},
        )
        assert kept.json()["status"] == "created"
        assert client.get(f"/api/assets/{kept.json()['id']}/original").content == content
        assert client.request("DELETE", "/api/assets", json={"ids": [kept.json()["id"]], "force": True}).is_success
    assert_agreement(followed)


def test_a_photo_that_is_uploaded_again_is_another_asset(followed: Takeover, player: Player) -> None:
    player.upload_again()
    assert followed.report(*ONCE)["new"] == 1
    assert_agreement(followed)


def test_a_file_of_a_library_that_is_listed_again_is_another_asset(followed: Takeover, player: Player) -> None:
    former = player.list_again()
    assert former is not None
    assert followed.report(*ONCE)["new"] == 1
    assert_agreement(followed)
    assert read_assets(followed)[former].deleted_at is not None


def test_what_immich_makes_later_takes_the_place_of_ours(followed: Takeover, player: Player) -> None:
    added = player.add(owner="ada")
    followed.report(*ONCE)
    while not (made := followed.installation.execute('SELECT path FROM asset_file WHERE "assetId" = %s', [added])):
        player.make_thumbnail()
    followed.report(*ONCE)
    with followed.client("ada") as client:
        shown = client.get(f"/api/assets/{added}/thumbnail")
    assert shown.content == followed.installation.to_host(made[0][0]).read_bytes()


def test_ours_wins_nowhere(followed: Takeover) -> None:
    asset_id = next(each for each in followed.installation.plain if followed.owner_of(each) == "ada")
    row = 'SELECT "isFavorite", "deletedAt" IS NULL FROM asset WHERE id = %s'
    ((is_favorite, is_shown),) = followed.installation.execute(row, [asset_id])
    with followed.client("ada") as client:
        changed = client.put(f"/api/assets/{asset_id}", json={"isFavorite": not is_favorite, "description": "ours"})
        assert changed.status_code == 200
        if is_shown:
            assert client.request("DELETE", "/api/assets", json={"ids": [str(asset_id)]}).status_code == 204
        followed.report(*ALL)
        assert_agreement(followed)


def test_what_was_removed_here_comes_back(followed: Takeover) -> None:
    asset_id = next(each for each in followed.installation.plain if followed.owner_of(each) == "ada")
    before = followed.installation.fingerprint()
    with followed.client("ada") as client:
        removal = {"ids": [str(asset_id)], "force": True}
        assert client.request("DELETE", "/api/assets", json=removal).status_code == 204
        assert client.get(f"/api/assets/{asset_id}").status_code in (400, 404)
    followed.report(*ALL)
    assert followed.installation.fingerprint() == before
    assert_agreement(followed)


def log_in(takeover: Takeover, password: str) -> int:
    """The status of the answer to Ben."""
    with takeover.service.client() as client:
        return client.post("/api/auth/login", json={"email": "ben@example.org", "password": password}).status_code


def read_with_key(takeover: Takeover) -> int:
    """The status of the answer to Ben's API key, after a restart, which forgets what is cached."""
    takeover.service.restart()
    with takeover.client("ben") as client:
        return client.get("/api/assets").status_code


def test_a_new_password_and_a_revoked_key_follow(followed: Takeover) -> None:
    installation = followed.installation
    ben = installation.users["ben"]
    assert log_in(followed, PASSWORD) == 201
    assert read_with_key(followed) == 200
    other = bcrypt.hashpw(b"another password", bcrypt.gensalt(4)).decode()
    ((key,),) = installation.execute('SELECT to_jsonb(k) FROM api_key AS k WHERE "userId" = %s', [ben])
    installation.execute('UPDATE "user" SET password = %s WHERE id = %s', [other, ben])
    installation.execute('DELETE FROM api_key WHERE "userId" = %s', [ben])

    followed.report(*ONCE)

    assert (log_in(followed, PASSWORD), log_in(followed, "another password")) == (401, 201)
    assert read_with_key(followed) == 401
    restore = "INSERT INTO api_key SELECT (jsonb_populate_record(NULL::api_key, %s::jsonb)).*"
    installation.execute(restore, [json.dumps(key)])
    installation.execute('UPDATE "user" SET password = %s WHERE id = %s', [PASSWORD_HASH, ben])
    followed.report(*ONCE)
    assert log_in(followed, PASSWORD) == 201
    assert read_with_key(followed) == 200


def test_a_deleted_user_is_locked_out_until_restored(followed: Takeover) -> None:
    installation = followed.installation
    installation.execute('UPDATE "user" SET "deletedAt" = now() WHERE id = %s', [installation.users["ben"]])
    followed.report(*ONCE)
    assert log_in(followed, PASSWORD) == 401
    assert read_with_key(followed) == 401
    assert_agreement(followed)

    installation.execute('UPDATE "user" SET "deletedAt" = NULL WHERE id = %s', [installation.users["ben"]])
    followed.report(*ONCE)
    assert log_in(followed, PASSWORD) == 201
    assert read_with_key(followed) == 200

    installation.execute("UPDATE \"user\" SET password = '' WHERE id = %s", [installation.users["ben"]])
    followed.report(*ONCE)
    assert log_in(followed, PASSWORD) == 401, "at Immich they log in by other means now"
    assert_agreement(followed)


NO_TRIGGERS = "SET session_replication_role = replica;"


@pytest.mark.parametrize(
    ("others", "written"),
    [
        ("'00dc6acf-ac00-7000-8000-000000000000'", '"updateId" = immich_uuid_v7()'),
        ("gen_random_uuid()", '"updatedAt" = now()'),
    ],
    ids=["by updateId", "by updatedAt where updateId is random"],
)
def test_nothing_is_read_but_what_was_written(followed: Takeover, others: str, written: str) -> None:
    """All other rows were written in 2000."""
    installation = followed.installation
    for table in ("asset", "asset_file", "asset_exif"):
        statement = f"{NO_TRIGGERS} UPDATE {table} SET \"updatedAt\" = '2000-01-01'"
        installation.execute(f'{statement}, "updateId" = {others}')
    followed.report(*ALL)
    asset_id = next(each for each in installation.plain if followed.owner_of(each) == "ada")
    change = f'{NO_TRIGGERS} UPDATE asset SET "isFavorite" = NOT "isFavorite", {written} WHERE id = \'{asset_id}\''
    installation.execute(change)

    report = followed.report(*ONCE)

    assert (report["new"], report["changed"], report["unchanged"], report["skipped"]) == (0, 1, 0, 0)
    for table in ("asset", "asset_file", "asset_exif"):
        installation.execute(f'{NO_TRIGGERS} UPDATE {table} SET "updateId" = immich_uuid_v7()')
    assert_agreement(followed)


@pytest.mark.parametrize("gone", ["user", "library"])
def test_assets_go_to_the_trash_with_their_user_or_library(make_takeover: MakeTakeover, gone: str) -> None:
    """The database deletes the rows of the assets, and Immich records none of them."""
    takeover = make_takeover("v3-s3", assets=40)
    takeover.report("import")
    installation = takeover.installation
    gone_id = installation.users["ben"] if gone == "user" else installation.library
    column = "ownerId" if gone == "user" else "libraryId"
    lost = {row[0] for row in installation.execute(f'SELECT id FROM asset WHERE "{column}" = %s', [gone_id])}
    shown = {asset.id for asset in read_assets(takeover).values() if asset.id in lost and asset.deleted_at is None}
    assert shown
    installation.execute(f'DELETE FROM "{gone}" WHERE id = %s', [gone_id])
    installation.plain[:] = [each for each in installation.plain if each not in lost]

    assert takeover.report(*ONCE)["trashed"] == len(shown)

    assert takeover.report(*ONCE)["trashed"] == 0
    assert takeover.report(*ALL)["trashed"] == 0
    assert_agreement(takeover)
    assert {asset.id for asset in read_assets(takeover).values() if asset.deleted_at is None} & lost == set()


def test_another_database_empties_nothing(followed: Takeover) -> None:
    installation = followed.installation
    with_rows = installation.execute("SELECT count(*) FROM asset")[0][0]
    installation.execute("SET session_replication_role = replica; CREATE TABLE aside AS TABLE asset; DELETE FROM asset")
    try:
        assert followed.report(*ONCE)["trashed"] == 0
        ended = followed.run(*ALL)
        assert ended.returncode == 2
        assert "is it the database of another installation?" in ended.stderr
    finally:
        installation.execute(
            "SET session_replication_role = replica; INSERT INTO asset SELECT * FROM aside; DROP TABLE aside"
        )
    assert installation.execute("SELECT count(*) FROM asset")[0][0] == with_rows
    assert_agreement(followed)


def test_what_was_adopted_is_ours_for_good(make_takeover: MakeTakeover, seed: int) -> None:
    """Immich's rows and paths no longer hold for it, whatever follows them still."""
    takeover = make_takeover("v2-local", assets=5)
    takeover.report("import")
    asset_id = takeover.installation.plain[0]
    ours = str(takeover.service.stack.media / "upload" / "ours.jpg")

    async def adopt(catalog: Catalog) -> None:
        asset = await catalog.assets.get(asset_id)
        assert asset is not None
        async with catalog.engine.begin() as connection:
            row = tables.file.c.id == asset.file.id
            await connection.execute(update(tables.file).where(row).values(is_foreign=False, path=ours))

    takeover.service.people.call(adopt)
    player = Player(takeover.installation, seed)
    takeover.installation.plain[:] = [asset_id]
    player.rename()
    player.favourite()
    before = read_any(takeover, asset_id)
    takeover.report(*ONCE)
    takeover.report(*ALL)
    assert read_any(takeover, asset_id) == before
    assert before.file.path == ours
    takeover.installation.execute("DELETE FROM asset WHERE id = %s", [asset_id])
    takeover.report(*ALL)
    assert read_any(takeover, asset_id).deleted_at is None


def read_any(takeover: Takeover, asset_id: UUID) -> Asset:
    async def read(catalog: Catalog) -> Asset:
        asset = await catalog.assets.get(asset_id)
        assert asset is not None
        return asset

    return takeover.service.people.call(read)


def test_nothing_is_followed_before_an_import(make_takeover: MakeTakeover) -> None:
    takeover = make_takeover("v2-local", assets=5)
    ended = takeover.run(*ONCE)
    assert ended.returncode == 2
    assert "run `mediavault immich import` first" in ended.stderr, ended.stderr


@pytest.mark.parametrize("combination", COMBINATIONS, ids=COMBINATION_IDS)
def test_both_agree_in_the_end(
    make_takeover: MakeTakeover, combination: str, seed: int, note: Note, *, soak: bool
) -> None:
    """Immich writes while `follow` runs."""
    takeover = make_takeover(combination, assets=30)
    takeover.report("import")
    player = Player(takeover.installation, seed)
    failures: list[BaseException] = []
    ended = threading.Event()

    def play() -> None:
        try:
            for _ in range(SOAK_PLAYED if soak else PLAYED):
                player.play()
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)
        finally:
            ended.set()

    writer = threading.Thread(target=play)
    writer.start()
    rounds = 0
    while not ended.is_set() or rounds < ROUNDS_AT_LEAST:
        takeover.report(*ONCE)
        rounds += 1
    writer.join(300)
    assert not failures
    takeover.report(*ONCE)
    takeover.report(*ALL)
    assert_agreement(takeover)
    assert takeover.report(*ALL)["changed"] == 0
    digests = {asset_id: hashlib.sha1(content).digest() for asset_id, content in takeover.installation.contents.items()}
    for asset_id, asset in read_assets(takeover).items():
        if asset_id in takeover.installation.plain and asset.library_id is None:
            assert asset.file.sha1 == digests[asset_id]
    assert_consistent(takeover)
    note(f"{combination}: {rounds} looks while Immich wrote")
