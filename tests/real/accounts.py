"""Creates users and API keys directly in the catalogue of a running service, in milliseconds (the command line takes a second each)."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from argon2 import PasswordHasher

from app.catalog.catalog import Catalog, open_catalog
from app.config import Settings
from app.storage.opening import open_storage
from app.storage.service import StorageService
from tests.real.secrets import record_secret
from tests.real.stacks import Stack

T = TypeVar("T")
WAIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Account:
    """A user with one API key. `password` is None for a user who cannot log in."""

    id: UUID
    email: str
    key: str
    password: str | None = field(default=None)

    @property
    def headers(self) -> dict[str, str]:
        return {"x-api-key": self.key}


class BackgroundLoop:
    """An event loop on a thread of its own, with which synchronous and asynchronous tests run coroutines."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], *, within: float = WAIT_SECONDS) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()


class AccountFactory:
    """Creates accounts. Opens the service's catalogue and storage in the test process at first use."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._loop: BackgroundLoop | None = None
        self._catalog: Catalog | None = None
        self._storage: StorageService | None = None

    def add(
        self,
        *,
        quota: int | None = None,
        is_admin: bool = False,
        password: str | None = None,
        permissions: tuple[str, ...] = ("all",),
    ) -> Account:
        """A new user with one key; `quota` in bytes."""
        email = f"{secrets.token_hex(6)}@example.org"
        hashed = PasswordHasher(time_cost=1, memory_cost=8192).hash(record_secret(password)) if password else None

        async def create(catalog: Catalog) -> Account:
            user = await catalog.users.create(
                email, email.partition("@")[0], is_admin=is_admin, quota=quota, password_hash=hashed
            )
            return Account(user.id, email, await _new_key(catalog, user.id, permissions), password)

        return self.call(create)

    def add_key(self, user_id: UUID, permissions: tuple[str, ...] = ("all",)) -> str:
        """Create a further key for the user."""

        async def create(catalog: Catalog) -> str:
            return await _new_key(catalog, user_id, permissions)

        return self.call(create)

    def call(self, work: Callable[[Catalog], Awaitable[T]]) -> T:
        """Run `work` with the catalogue."""

        async def run() -> T:
            return await work(await self._open_catalog())

        return self._run(run())

    def call_with_storage(self, work: Callable[[Catalog, StorageService], Awaitable[T]]) -> T:
        """Run `work` with the catalogue and the storage."""

        async def run() -> T:
            if self._storage is None:
                self._storage = await open_storage(settings_of(self._stack))
            return await work(await self._open_catalog(), self._storage)

        return self._run(run())

    def close(self) -> None:
        if self._loop is not None:
            self._loop.run(self._aclose())
            self._loop.close()
        self._loop = None

    async def _open_catalog(self) -> Catalog:
        if self._catalog is None:
            self._catalog = await open_catalog(self._stack.db_url, upgrade=False)
        return self._catalog

    async def _aclose(self) -> None:
        catalog, self._catalog = self._catalog, None
        storage, self._storage = self._storage, None
        if catalog is not None:
            await catalog.aclose()
        if storage is not None:
            await storage.aclose()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = BackgroundLoop()
        return self._loop.run(work)


def settings_of(stack: Stack) -> Settings:
    """The stack's settings as a `Settings` value."""
    return Settings(_env_file=None, **stack.settings)  # pyright: ignore[reportCallIssue, reportArgumentType]


async def _new_key(catalog: Catalog, user_id: UUID, permissions: tuple[str, ...]) -> str:
    key = record_secret(secrets.token_hex(32))
    await catalog.api_keys.create(user_id, "tests", permissions, hashlib.sha256(key.encode()).digest())
    return key
