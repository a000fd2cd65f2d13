"""`ConcurrencyLimit`: bounds how much of one kind of work is done at once, in all and for each account. What is too much is refused at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable
from contextlib import contextmanager

RETRY_SECONDS = 5
"""When a client that was refused should try again."""


class LimitReached(Exception):
    """`is_own`: the account's own limit, else that of all accounts together."""

    def __init__(self, message: str, *, is_own: bool) -> None:
        self.is_own = is_own
        self.retry_after = RETRY_SECONDS
        super().__init__(message)


class ConcurrencyLimit:
    """`in_use`, `limit` and `refused_total` are for metrics. One process' work; of use by one thread only."""

    def __init__(self, work: str, *, limit: tuple[int, str] | None = None, account_limit: tuple[int, str]) -> None:
        """`work`: what is counted, for messages, such as `uploads`. Each limit is a number with the name of its setting."""
        self._work = work
        self._limit = limit
        self._account_limit = account_limit
        self._counts: Counter[Hashable] = Counter()
        self.in_use = 0
        self.refused_total = 0

    @property
    def limit(self) -> int | None:
        """The limit of all accounts together; None if there is only one for each of them."""
        return None if self._limit is None else self._limit[0]

    @property
    def account_limit(self) -> int:
        return self._account_limit[0]

    @contextmanager
    def hold(self, account: Hashable = None) -> Generator[None]:
        """Counts the block as work of `account`. Raises `LimitReached`."""
        self.acquire(account)
        try:
            yield
        finally:
            self.release(account)

    def acquire(self, account: Hashable) -> None:
        """As the entry of `hold`; `release` must follow."""
        if self._counts[account] >= self._account_limit[0]:
            raise self._refuse(self._account_limit, is_own=True)
        if self._limit is not None and self.in_use >= self._limit[0]:
            raise self._refuse(self._limit, is_own=False)
        self._counts[account] += 1
        self.in_use += 1

    def release(self, account: Hashable) -> None:
        self.in_use -= 1
        self._counts[account] -= 1
        if not self._counts[account]:
            del self._counts[account]

    def _refuse(self, limit: tuple[int, str], *, is_own: bool) -> LimitReached:
        self.refused_total += 1
        number, setting = limit
        return LimitReached(f"Too many {self._work} at once, at most {number} ({setting}); try later", is_own=is_own)
