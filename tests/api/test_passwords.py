"""Passwords: the response to a login, including its time, does not disclose whether the account exists."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from argon2 import PasswordHasher, extract_parameters

from app.api.authentication.authenticator import Authenticator
from app.api.authentication.passwords import MAX_PASSWORD_CHARACTERS, InvalidPassword, PasswordService
from app.api.errors import ApiError
from app.catalog.accounts.bcrypt_hashes import is_bcrypt_hash
from app.catalog.catalog import Catalog, open_catalog, upgrade_catalog
from app.config import Settings

PASSWORD = "correct horse battery staple"
EMAIL = "somebody@example.org"
SCOPE: dict[str, Any] = {"type": "http", "client": ("127.0.0.1", 1), "headers": []}


class RecordingHasher(PasswordHasher):
    """A password hasher that records its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.verified: list[str] = []
        self.hashed = 0

    def hash(self, *args: Any, **named: Any) -> str:
        self.hashed += 1
        return super().hash(*args, **named)

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:  # noqa: A002 - the library's name
        self.verified.append(str(hash))
        return super().verify(hash, password)


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    url = f"sqlite:///{tmp_path / 'catalogue.db'}"
    await upgrade_catalog(url)
    opened = await open_catalog(url)
    yield opened
    await opened.aclose()


@pytest.mark.parametrize(
    "password", ["wrong", PASSWORD, "x" * MAX_PASSWORD_CHARACTERS, "x" * (MAX_PASSWORD_CHARACTERS + 1)], ids=len
)
async def test_a_login_costs_the_same_work_whether_the_account_exists_or_not(catalog: Catalog, password: str) -> None:
    hasher, passwords = RecordingHasher(), PasswordService()
    passwords._hasher = hasher
    real = await passwords.hash(PASSWORD)
    await catalog.users.create(EMAIL, "Somebody", password_hash=real)
    await catalog.users.create("without@example.org", "Without a password")
    login = Authenticator(catalog, Settings(_env_file=None), passwords).login  # pyright: ignore[reportCallIssue]
    with pytest.raises(ApiError):
        await login(EMAIL, "another", SCOPE)
    costs: list[tuple[int, list[Any]]] = []
    refusals: set[tuple[int, str]] = set()

    for email in (EMAIL, "unknown@example.org", "without@example.org"):
        hasher.verified, hasher.hashed = [], 0
        try:
            await login(email, password, SCOPE)
        except ApiError as error:
            refusals.add((error.status, str(error)))
        else:
            assert (email, password) == (EMAIL, PASSWORD)
        costs.append((hasher.hashed, [extract_parameters(each) for each in hasher.verified]))

    assert len(refusals) == 1
    assert costs[1:] == costs[:1] * 2
    assert costs[0] == (0, [extract_parameters(real)] if len(password) <= MAX_PASSWORD_CHARACTERS else [])


async def test_the_first_login_of_a_process_costs_the_same_work_too() -> None:
    costs: list[tuple[int, int]] = []
    for hash_ in (PasswordHasher().hash(PASSWORD), None):
        hasher, passwords = RecordingHasher(), PasswordService()
        passwords._hasher = hasher
        assert not await passwords.verify(hash_, "wrong")
        costs.append((hasher.hashed, len(hasher.verified)))
    assert costs == [(1, 1), (1, 1)]


async def test_no_password_opens_an_account_that_has_none() -> None:
    passwords = PasswordService()
    assert not await passwords.verify(None, "no password is this"), "the decoy's own"
    assert not await passwords.verify(None, "")


@pytest.mark.parametrize("password", ["abc", "pâss wörd", "x" * 200], ids=len)
async def test_a_password_of_immich_opens_the_account_and_is_hashed_anew(catalog: Catalog, password: str) -> None:
    """Immich's bcrypt takes 72 bytes of a password."""
    former = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    created = await catalog.users.create(EMAIL, "Somebody", password_hash=former)
    login = Authenticator(catalog, Settings(_env_file=None), PasswordService()).login  # pyright: ignore[reportCallIssue]
    with pytest.raises(ApiError, match="Incorrect email or password"):
        await login(EMAIL, "another", SCOPE)
    user = await catalog.users.get(created.id)
    assert user is not None
    assert user.password_hash == former

    for _ in range(2):
        assert (await login(EMAIL, password, SCOPE))[0].id == created.id
        user = await catalog.users.get(created.id)
        assert user is not None
        assert str(user.password_hash).startswith("$argon2id$")

    await catalog.users.replace_password_hash(created.id, former, "an answer that came late")
    assert await catalog.users.get(created.id) == user, "the password was changed meanwhile"


GOOD = bcrypt.hashpw(b"plain", bcrypt.gensalt(4)).decode()
ARGON2_HASH = PasswordHasher(time_cost=1, memory_cost=64).hash("plain")
UNUSABLE = {
    "takes days": "$2b$31$" + "a" * 53,
    "short": "$2b$04$short",
    "ends with a newline": GOOD[:-1] + "\n",
    "another version": "$2x$" + GOOD[4:],
    "no cost": "$2b$00$" + GOOD[7:],
    "low cost": "$2b$03$" + GOOD[7:],
    "salt of other bits": GOOD[:28] + "/" + GOOD[29:],
    "too long": GOOD + "a",
    "text": "plain",
    "of another method": "$argon2id$plain",
    "null byte": GOOD[:-1] + "\0",
}


@pytest.mark.parametrize("hash_", UNUSABLE.values(), ids=list(UNUSABLE))
async def test_what_is_no_usable_bcrypt_hash_is_a_wrong_password(catalog: Catalog, hash_: str) -> None:
    await catalog.users.create(EMAIL, "Somebody", password_hash=hash_)
    assert not is_bcrypt_hash(hash_)
    assert await catalog.users.find_bcrypt_cost() is None
    login = Authenticator(catalog, Settings(_env_file=None), PasswordService()).login  # pyright: ignore[reportCallIssue]
    with pytest.raises(ApiError, match="Incorrect email or password"):
        await login(EMAIL, "plain", SCOPE)


@pytest.mark.parametrize("password", ["", "\0", "pla\0in", "plain\0", "x" * 73, "ä" * 40, "\ud800", "plain"], ids=ascii)
async def test_any_text_is_a_right_or_a_wrong_password(password: str) -> None:
    passwords = PasswordService()
    for hash_ in (GOOD, "$2y$" + GOOD[4:], "$2a$" + GOOD[4:], ARGON2_HASH, None):
        is_right = await passwords.verify(hash_, password, bcrypt_cost=4)
        assert is_right == (password == "plain" and hash_ is not None)


async def test_half_a_character_is_no_new_password() -> None:
    with pytest.raises(InvalidPassword):
        await PasswordService().hash("\ud800" * 8)


async def test_a_login_costs_the_same_work_while_some_have_passwords_of_immich(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever kind of hash the account has, and whether there is an account; afterwards only Argon2id is computed."""
    hasher, passwords = RecordingHasher(), PasswordService()
    passwords._hasher = hasher
    rounds: list[int] = []

    def record(compute: Any, hash_of: int) -> Any:
        def call(*arguments: bytes) -> Any:
            rounds.append(int(arguments[hash_of].split(b"$")[2]))
            return compute(*arguments)

        return call

    former = bcrypt.hashpw(b"former", bcrypt.gensalt(5)).decode()
    other = await catalog.users.create("immich@example.org", "Of Immich", password_hash=former)
    await catalog.users.create(EMAIL, "Somebody", password_hash=await passwords.hash(PASSWORD))
    await catalog.users.create("without@example.org", "Without a password")
    await catalog.users.create("odd@example.org", "With an odd one", password_hash="$2b$31$" + "a" * 53)
    monkeypatch.setattr(bcrypt, "checkpw", record(bcrypt.checkpw, 1))
    monkeypatch.setattr(bcrypt, "hashpw", record(bcrypt.hashpw, 1))
    login = Authenticator(catalog, Settings(_env_file=None), passwords).login  # pyright: ignore[reportCallIssue]
    with pytest.raises(ApiError):
        await login(EMAIL, "which makes the decoy", SCOPE)

    for expected in ([5], []):
        for email in ("immich@example.org", EMAIL, "without@example.org", "odd@example.org", "unknown@example.org"):
            hasher.verified, hasher.hashed = [], 0
            rounds.clear()
            with pytest.raises(ApiError):
                await login(email, "wrong", SCOPE)
            assert (email, rounds, len(hasher.verified), hasher.hashed) == (email, expected, 1, 0)
        replaced = await passwords.rehash("former")
        await catalog.users.replace_password_hash(other.id, former, replaced)
