"""Passwords: Argon2id, off the event loop and few at a time, and a limit on guessing."""

from __future__ import annotations

import time
from collections import OrderedDict, deque

import anyio
import anyio.to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MAX_PASSWORD_CHARACTERS = 1024
ATTEMPTS = 10
WINDOW_SECONDS = 15 * 60.0
TRACKED = 10_000


class Passwords:
    """Hashes and verifies; each run takes 64 MiB, so at most two at once."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._slots = anyio.CapacityLimiter(2)
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        return await anyio.to_thread.run_sync(self._hasher.hash, password, limiter=self._slots)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """False without a hash too, after the same work: the answer's time does not tell whether the user exists."""
        if self._decoy is None:
            self._decoy = await self.hash("no password is this")
        return await anyio.to_thread.run_sync(self._matches, password_hash, self._decoy, password, limiter=self._slots)

    def _matches(self, password_hash: str | None, decoy: str, password: str) -> bool:
        if len(password) > MAX_PASSWORD_CHARACTERS:
            return False
        try:
            return self._hasher.verify(password_hash or decoy, password) and password_hash is not None
        except (VerificationError, InvalidHashError):
            return False


class GuessLimit:
    """Ten failed logins a quarter of an hour, for each address and for each account (per process)."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, *names: str) -> float:
        """Seconds until the next try is allowed; 0 when it is."""
        now = time.monotonic()
        return max((self._wait(name, now) for name in names), default=0.0)

    def failed(self, *names: str) -> None:
        for name in names:
            failures = self._failures.setdefault(name, deque(maxlen=ATTEMPTS))
            failures.append(time.monotonic())
            self._failures.move_to_end(name)
            if len(self._failures) > TRACKED:
                self._failures.popitem(last=False)

    def succeeded(self, name: str) -> None:
        self._failures.pop(name, None)

    def _wait(self, name: str, now: float) -> float:
        failures = self._failures.get(name)
        if failures is None or len(failures) < ATTEMPTS:
            return 0.0
        return max(0.0, failures[0] + WINDOW_SECONDS - now)
