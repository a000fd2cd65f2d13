"""What an import cannot take over is named by a plan and by the import, and stops neither."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.catalog.catalog import Catalog
from tests.immich.conftest import MakeTakeover
from tests.immich.installation import CONTAINER, CONTAINER_PHOTOS
from tests.immich.takeover import Takeover

TAKEN, ODD = "taken@example.org", "no address"
COLUMNS = '(id, "ownerId", type, "originalPath", "originalFileName", "fileCreatedAt", "fileModifiedAt", "localDateTime", checksum)'


def add_asset(takeover: Takeover, owner: UUID, path: str, *, library: UUID | None = None) -> UUID:
    """A row whose owner need not exist."""
    asset_id = uuid4()
    takeover.installation.execute(
        f"SET session_replication_role = replica; INSERT INTO asset {COLUMNS} VALUES ('{asset_id}', '{owner}', 'IMAGE', '{path}', 'a.jpg', "
        f"now(), now(), now(), '\\x{asset_id.hex}00000000'); INSERT INTO asset_exif (\"assetId\") VALUES ('{asset_id}')"
    )
    if library is not None:
        takeover.installation.execute('UPDATE asset SET "libraryId" = %s WHERE id = %s', [library, asset_id])
    return asset_id


@pytest.fixture(scope="module")
def odd(make_takeover: MakeTakeover) -> Takeover:
    takeover = make_takeover("v3-s3", assets=10)
    installation = takeover.installation
    ada = installation.users["ada"]

    async def take_address(catalog: Catalog) -> None:
        await catalog.users.create(TAKEN, "Ours")

    takeover.service.people.call(take_address)
    library = uuid4()
    installation.execute(
        'INSERT INTO library (id, name, "ownerId", "importPaths", "exclusionPatterns") VALUES (%s, %s, %s, %s, %s)',
        [library, "On a disk that is away", ada, [f"{CONTAINER_PHOTOS}/away"], []],
    )
    add_asset(takeover, ada, f"{CONTAINER_PHOTOS}/away/a.jpg", library=library)
    add_asset(takeover, uuid4(), f"{CONTAINER}/upload/of nobody.jpg")
    folder = f"{CONTAINER}/upload/a folder.jpg"
    installation.to_host(folder).mkdir()
    add_asset(takeover, ada, folder)
    for email in (TAKEN, ODD):
        user_id = uuid4()
        installation.execute('INSERT INTO "user" (id, email) VALUES (%s, %s)', [user_id, email])
        path = f"{CONTAINER}/upload/{user_id}.jpg"
        installation.to_host(path).write_bytes(b"of " + email.encode())
        add_asset(takeover, user_id, path)
    key = 'INSERT INTO api_key (id, name, key, "userId", permissions) VALUES (%s, %s, %s, %s, %s)'
    installation.execute(key, [uuid4(), "cut off", b"12345", ada, ["all"]])
    return takeover


@pytest.fixture(scope="module")
def problems(odd: Takeover) -> Iterator[dict[str, dict[str, Any]]]:
    """Of a plan, and of an import, which a dry run has announced."""
    before = odd.installation.fingerprint()
    plan, dry, done = odd.report("plan"), odd.report("import", "--dry-run"), odd.report("import")
    assert dry == done
    assert plan["users"] == done["users"] + 1, "a plan does not see that an address is taken"
    yield {"plan": plan["problems"], "import": done["problems"]}
    assert odd.installation.fingerprint() == before


@pytest.mark.parametrize(
    ("kind", "example", "commands"),
    [
        ("library whose folders are absent", f"{CONTAINER_PHOTOS}/away", ("plan",)),
        ("owner without a row", "of nobody.jpg", ("plan",)),
        ("unreadable file", "a folder.jpg", ("plan", "import")),
        ("unusable API key", "cut off", ("plan", "import")),
        ("email address of another user", TAKEN, ("import",)),
        ("invalid email address", ODD, ("plan", "import")),
        ("missing file", "away/a.jpg", ("plan", "import")),
    ],
)
def test_it_is_named(problems: dict[str, dict[str, Any]], kind: str, example: str, commands: tuple[str, ...]) -> None:
    for command in commands:
        assert any(example in each for each in problems[command][kind]["examples"]), command


def test_all_else_was_taken_over(odd: Takeover, problems: dict[str, dict[str, Any]]) -> None:
    assert problems

    async def read(catalog: Catalog) -> tuple[set[str], set[UUID]]:
        emails = {user.email for user in await catalog.users.list()}
        return emails, set(await catalog.vanished_assets.get_page(UUID(int=0), 1000))

    emails, assets = odd.service.people.call(read)
    assert {"ada@example.org", "ben@example.org", TAKEN} <= emails
    assert ODD not in emails
    assert set(odd.installation.plain) <= assets
