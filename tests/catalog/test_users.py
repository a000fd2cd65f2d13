"""Users, their API keys and their sessions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.errors import EmailTaken, InvalidEmail, NotFound
from tests.catalog.rows import make_user


async def test_a_user_is_found_by_id_and_address(catalog: Catalog) -> None:
    user = await catalog.users.create(" Ann@Example.org", "Ann", is_admin=True, quota=5, password_hash="$argon2id$")
    assert (user.email, user.is_admin, user.quota, user.used) == ("ann@example.org", True, 5, 0)
    assert user == await catalog.users.get(user.id) == await catalog.users.get_by_email("ANN@example.ORG ")
    assert await catalog.users.get(uuid4()) is None
    assert await catalog.users.get_by_email("bob@example.org") is None
    assert await catalog.users.list() == [user]
    assert await catalog.users.count() == 1


async def test_an_address_belongs_to_one_user(catalog: Catalog) -> None:
    one = await catalog.users.create("one@example.org", "One")
    two = await catalog.users.create("two@example.org", "Two")
    with pytest.raises(EmailTaken):
        await catalog.users.create("ONE@example.org", "Three")
    with pytest.raises(EmailTaken):
        await catalog.users.update(two.id, email="one@example.org")
    assert await catalog.users.list() == [one, two]


@pytest.mark.parametrize(
    "email",
    [
        "",
        " ",
        "ann",
        "@",
        "@example.org",
        "ann@",
        "ann@exam\nple.org",
        "an n@example.org",
        "a\0@b",
        "a\x1b[2J@b",
        "a" * 250 + "@b.org",
    ],
)
async def test_what_is_no_address_is_refused(catalog: Catalog, email: str) -> None:
    ann = await catalog.users.create("ann@example.org", "Ann")
    with pytest.raises(InvalidEmail) as refused:
        await catalog.users.create(email, "Nobody")
    with pytest.raises(InvalidEmail):
        await catalog.users.update(ann.id, email=email)
    assert str(refused.value).isprintable()
    assert await catalog.users.list() == [ann]


async def test_changes_leave_the_rest_as_it_is(catalog: Catalog) -> None:
    user = await catalog.users.create("ann@example.org", "Ann", quota=5)
    changed = await catalog.users.update(user.id, name="Anna", quota=None)
    assert changed == await catalog.users.get(user.id)
    assert changed is not None
    assert (changed.email, changed.name, changed.quota) == ("ann@example.org", "Anna", None)
    assert await catalog.users.update(uuid4(), name="Nobody") is None


async def test_a_key_is_found_by_its_hash_with_its_user(catalog: Catalog) -> None:
    user = await make_user(catalog)
    key = await catalog.api_keys.create(user.id, "phone", ["asset.read", "asset.upload"], b"\0hash")
    assert key.permissions == ("asset.read", "asset.upload")
    assert await catalog.api_keys.get_by_hash(b"\0hash") == (key, user)
    assert await catalog.api_keys.get_by_hash(b"\0") is None
    assert await catalog.api_keys.get(user.id, key.id) == key
    assert await catalog.api_keys.list(user.id) == await catalog.api_keys.list() == [key]
    with pytest.raises(NotFound):
        await catalog.api_keys.create(uuid4(), "phone", ["all"], b"other")


async def test_a_key_is_changed_and_revoked_by_its_user_only(catalog: Catalog) -> None:
    user, other = await make_user(catalog), await make_user(catalog)
    key = await catalog.api_keys.create(user.id, "phone", ["all"], b"hash")
    assert await catalog.api_keys.get(other.id, key.id) is None
    assert await catalog.api_keys.update(other.id, key.id, name="mine") is None
    assert not await catalog.api_keys.delete(other.id, key.id)
    renamed = await catalog.api_keys.update(user.id, key.id, name="tablet")
    assert renamed is not None
    assert (renamed.name, renamed.permissions) == ("tablet", ("all",))
    narrowed = await catalog.api_keys.update(user.id, key.id, permissions=["asset.read"])
    assert narrowed == await catalog.api_keys.get(user.id, key.id)
    assert narrowed is not None
    assert (narrowed.name, narrowed.permissions) == ("tablet", ("asset.read",))
    assert await catalog.api_keys.delete(user.id, key.id)
    assert not await catalog.api_keys.delete(user.id, key.id)
    assert await catalog.api_keys.get_by_hash(b"hash") is None


async def test_the_operator_revokes_any_key(catalog: Catalog) -> None:
    user = await make_user(catalog)
    key = await catalog.api_keys.create(user.id, "phone", ["all"], b"hash")
    assert await catalog.api_keys.delete_any(key.id)
    assert not await catalog.api_keys.delete_any(key.id)


async def test_a_session_lasts_until_it_expires_or_ends(catalog: Catalog) -> None:
    user = await make_user(catalog)
    now = datetime.now(UTC)
    session = await catalog.sessions.create(user.id, b"token", now + timedelta(days=1))
    old = await catalog.sessions.create(user.id, b"old", now)
    assert await catalog.sessions.get_by_hash(b"token", now) == (session, user)
    assert await catalog.sessions.get_by_hash(b"token", session.expires_at) is None
    assert await catalog.sessions.get_by_hash(b"old", old.expires_at) is None
    assert await catalog.sessions.delete_expired(now) == 1
    assert await catalog.sessions.get_by_hash(b"token", now) is not None
    assert await catalog.sessions.delete_by_hash(b"token")
    assert not await catalog.sessions.delete_by_hash(b"token")
    assert await catalog.sessions.get_by_hash(b"token", now) is None
    with pytest.raises(NotFound):
        await catalog.sessions.create(uuid4(), b"other", now)


async def test_the_installation_has_one_id_for_all_processes(catalog: Catalog, db_url: str) -> None:
    other = await open_catalog(db_url)
    try:
        ids = await asyncio.gather(*(each.installation.get_id() for each in (catalog, other) * 5))
        assert len(set(ids)) == 1
        assert await other.installation.get_id() == ids[0]
    finally:
        await other.aclose()


async def test_flags_are_remembered(catalog: Catalog) -> None:
    assert await catalog.installation.get_flag("mounts") is None
    await asyncio.gather(*(catalog.installation.set_flag("mounts", str(n)) for n in range(10)))
    assert await catalog.installation.get_flag("mounts") in set(map(str, range(10)))
    await catalog.installation.set_flag("mounts", "é")
    assert await catalog.installation.get_flag("mounts") == "é"
