"""Hashes and verifies passwords with Argon2id outside the event loop, and limits the rate of failed logins.

Users who come from an Immich installation have bcrypt hashes, which are verified too, until the first login replaces them."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import anyio.to_thread
import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.catalog.accounts.bcrypt_hashes import is_bcrypt_hash

MIN_PASSWORD_CHARACTERS = 8
MAX_PASSWORD_CHARACTERS = 1024
MAX_ATTEMPTS_PER_ACCOUNT = 10
MAX_ATTEMPTS_PER_ADDRESS = 100
MAX_PENDING_LOGINS = 8
"""Passwords that are being checked or hashed, or wait for it. Two are checked at a time, so a wait lasts at most a second or two."""

BCRYPT_BYTES = 72
"""bcrypt uses so much of a password; Immich's ignores the rest."""
_DECOY_SALT = "." * 22

WINDOW_SECONDS = 15 * 60.0
"""How long a failed attempt counts."""
MAX_TRACKED_KEYS = 10_000
"""Addresses, and pairs of address and account, whose attempts are remembered; the least recent is forgotten first."""


class InvalidPassword(Exception):
    """The text is not acceptable as a new password; the message says why."""


class PasswordService:
    """Hashes and verifies in threads. Each run takes 64 MiB of memory, so at most two run at once."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._slots = anyio.CapacityLimiter(2)
        self._dummy_hash: str | None = None

    async def hash(self, password: str) -> str:
        """Hash a new password. Raises `InvalidPassword` if it is too short or too long."""
        if len(password) < MIN_PASSWORD_CHARACTERS:
            raise InvalidPassword(f"a password has at least {MIN_PASSWORD_CHARACTERS} characters")
        if len(password) > MAX_PASSWORD_CHARACTERS:
            raise InvalidPassword(f"a password has at most {MAX_PASSWORD_CHARACTERS} characters")
        if not _is_encodable(password):
            raise InvalidPassword("a password consists of Unicode characters")
        return await self.rehash(password)

    async def rehash(self, password: str) -> str:
        """As `hash`, for a password that is in use already, however short it is."""
        return await anyio.to_thread.run_sync(self._hasher.hash, password, limiter=self._slots)

    async def verify(self, password_hash: str | None, password: str, *, bcrypt_cost: int | None = None) -> bool:
        """Whether the password matches. Without a hash (no such user), or with one that cannot be checked, the result is False after the
        same work, against a dummy hash: the response time does not disclose whether the user exists. `bcrypt_cost`: that of the bcrypt
        hashes which some users still have. While there are any, each password is hashed in both ways."""
        if self._dummy_hash is None:
            self._dummy_hash = await self.hash("no password is this")
        return await anyio.to_thread.run_sync(
            self._matches, password_hash, self._dummy_hash, password, bcrypt_cost, limiter=self._slots
        )

    def _matches(self, password_hash: str | None, dummy_hash: str, password: str, bcrypt_cost: int | None) -> bool:
        if len(password) > MAX_PASSWORD_CHARACTERS or not _is_encodable(password):
            return False
        first = password.encode()[:BCRYPT_BYTES]
        if password_hash is not None and is_bcrypt_hash(password_hash):
            is_right = bcrypt.checkpw(first, password_hash.encode())
            self._matches_argon2(dummy_hash, password)
            return is_right
        if bcrypt_cost is not None:
            bcrypt.hashpw(first, f"$2b${bcrypt_cost:02}${_DECOY_SALT}".encode())
        known_hash = password_hash if password_hash is not None and password_hash.startswith("$argon2") else None
        return self._matches_argon2(known_hash or dummy_hash, password) and known_hash is not None

    def _matches_argon2(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


def _is_encodable(password: str) -> bool:
    """False for half a surrogate pair, which JSON can hold."""
    try:
        password.encode()
    except UnicodeEncodeError:
        return False
    return True


class TooManyLogins(Exception):
    """The login was not checked; the next attempt is allowed after `retry_after` seconds. `is_overloaded`: too many other logins are
    being checked, and this client has not failed too often."""

    def __init__(self, retry_after: int, *, is_overloaded: bool = False) -> None:
        self.retry_after = retry_after
        self.is_overloaded = is_overloaded
        super().__init__(f"wait {retry_after} seconds")


class WrongPassword(Exception):
    """The password is wrong, or there is no such account."""


class LoginRateLimiter:
    """Bounds failed logins in `WINDOW_SECONDS`: per client address and account, and per client address. Counts per process.

    Failed logins from one address do not lock the account for its owner at another address.
    """

    def __init__(self) -> None:
        self._attempts: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()
        self._waiting = 0

    @asynccontextmanager
    async def attempt(self, address: str, account: str) -> AsyncIterator[None]:
        """Context manager around a login that raises `WrongPassword` if it fails. Raises `TooManyLogins`.

        The attempt counts before the password is checked, so that concurrent logins count too; it is removed if the login succeeds or
        fails for another reason.
        """
        limits = (((address, account), MAX_ATTEMPTS_PER_ACCOUNT), ((address,), MAX_ATTEMPTS_PER_ADDRESS))
        if wait := max(self._seconds_until_allowed(key, limit) for key, limit in limits):
            raise TooManyLogins(math.ceil(wait))
        with self.wait_for_turn():
            moment = time.monotonic()
            for key, limit in limits:
                self._record_attempt(key, limit, moment)
            try:
                yield
            except WrongPassword:
                raise
            except Exception:  # a failure of the catalogue is no failed login
                self._remove_attempt((address, account), moment)
                self._remove_attempt((address,), moment)
                raise
            else:
                self._attempts.pop((address, account), None)
                self._remove_attempt((address,), moment)

    @contextmanager
    def wait_for_turn(self) -> Iterator[None]:
        """Context manager around the check or the hashing of a password. Raises `TooManyLogins` if too many wait already."""
        if self._waiting >= MAX_PENDING_LOGINS:
            raise TooManyLogins(1, is_overloaded=True)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def _record_attempt(self, key: tuple[str, ...], limit: int, moment: float) -> None:
        self._attempts.setdefault(key, deque(maxlen=limit)).append(moment)
        self._attempts.move_to_end(key)
        if len(self._attempts) > MAX_TRACKED_KEYS:
            self._attempts.popitem(last=False)

    def _remove_attempt(self, key: tuple[str, ...], moment: float) -> None:
        attempts = self._attempts.get(key)
        if attempts is not None and moment in attempts:
            attempts.remove(moment)

    def _seconds_until_allowed(self, key: tuple[str, ...], limit: int) -> float:
        attempts = self._attempts.get(key)
        if attempts is None or len(attempts) < limit:
            return 0.0
        return max(0.0, attempts[0] + WINDOW_SECONDS - time.monotonic())
