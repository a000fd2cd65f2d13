"""Passwords: Argon2id, off the event loop and few at a time, and a limit on guessing."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MIN_PASSWORD_CHARACTERS = 8
MAX_PASSWORD_CHARACTERS = 1024
MAX_ATTEMPTS_PER_ACCOUNT = 10
MAX_ATTEMPTS_PER_ADDRESS = 100
MAX_PENDING_LOGINS = 8
"""Logins that are being checked or wait for it; with two at a time that is well within a second or two."""

WINDOW_SECONDS = 15 * 60.0
MAX_TRACKED_KEYS = 10_000


class InvalidPassword(Exception):
    """The text may not become a password; says why."""


class PasswordService:
    """Hashes and verifies; each run takes 64 MiB, so at most two at once."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._slots = anyio.CapacityLimiter(2)
        self._dummy_hash: str | None = None

    async def hash(self, password: str) -> str:
        """Of what is to become a password. Raises `InvalidPassword`."""
        if len(password) < MIN_PASSWORD_CHARACTERS:
            raise InvalidPassword(f"a password has at least {MIN_PASSWORD_CHARACTERS} characters")
        if len(password) > MAX_PASSWORD_CHARACTERS:
            raise InvalidPassword(f"a password has at most {MAX_PASSWORD_CHARACTERS} characters")
        return await anyio.to_thread.run_sync(self._hasher.hash, password, limiter=self._slots)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """False without a hash too, after the same work: the answer's time does not tell whether the user exists."""
        if self._dummy_hash is None:
            self._dummy_hash = await self.hash("no password is this")
        return await anyio.to_thread.run_sync(
            self._matches, password_hash, self._dummy_hash, password, limiter=self._slots
        )

    def _matches(self, password_hash: str | None, dummy_hash: str, password: str) -> bool:
        if len(password) > MAX_PASSWORD_CHARACTERS:
            return False
        try:
            return self._hasher.verify(password_hash or dummy_hash, password) and password_hash is not None
        except (VerificationError, InvalidHashError):
            return False


class TooManyLogins(Exception):
    """The next try is allowed after `retry_after` seconds; `is_overloaded`: others are being checked, and nobody is suspected."""

    def __init__(self, retry_after: int, *, is_overloaded: bool = False) -> None:
        self.retry_after = retry_after
        self.is_overloaded = is_overloaded
        super().__init__(f"wait {retry_after} seconds")


class WrongPassword(Exception):
    """For an account that there is not, too."""


class LoginRateLimiter:
    """Failed logins a quarter of an hour: ten from an address for an account, a hundred from an address (per process).

    A stranger's guesses do not lock an account for its owner, who comes from another address.
    """

    def __init__(self) -> None:
        self._attempts: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()
        self._waiting = 0

    @asynccontextmanager
    async def attempt(self, address: str, account: str) -> AsyncIterator[None]:
        """Around a login, which raises `WrongPassword`. It counts before its password is checked, so that logins at the same time
        count as well, and no longer where it turns out not to be wrong. Raises `TooManyLogins`."""
        limits = (((address, account), MAX_ATTEMPTS_PER_ACCOUNT), ((address,), MAX_ATTEMPTS_PER_ADDRESS))
        if wait := max(self._seconds_until_allowed(name, most) for name, most in limits):
            raise TooManyLogins(math.ceil(wait))
        if self._waiting >= MAX_PENDING_LOGINS:
            raise TooManyLogins(1, is_overloaded=True)
        moment = time.monotonic()
        for name, most in limits:
            self._record_attempt(name, most, moment)
        self._waiting += 1
        try:
            yield
        except WrongPassword:
            raise
        except Exception:  # the catalogue's failure is no guess
            self._remove_attempt((address, account), moment)
            self._remove_attempt((address,), moment)
            raise
        else:
            self._attempts.pop((address, account), None)
            self._remove_attempt((address,), moment)
        finally:
            self._waiting -= 1

    def _record_attempt(self, name: tuple[str, ...], most: int, moment: float) -> None:
        self._attempts.setdefault(name, deque(maxlen=most)).append(moment)
        self._attempts.move_to_end(name)
        if len(self._attempts) > MAX_TRACKED_KEYS:
            self._attempts.popitem(last=False)

    def _remove_attempt(self, name: tuple[str, ...], moment: float) -> None:
        attempts = self._attempts.get(name)
        if attempts is not None and moment in attempts:
            attempts.remove(moment)

    def _seconds_until_allowed(self, name: tuple[str, ...], most: int) -> float:
        attempts = self._attempts.get(name)
        if attempts is None or len(attempts) < most:
            return 0.0
        return max(0.0, attempts[0] + WINDOW_SECONDS - time.monotonic())
