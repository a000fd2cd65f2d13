"""Load by several clients at once, of several users."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from tests.real.accounts import Account, AccountFactory
from tests.scale.acknowledged import AcknowledgedLibrary
from tests.scale.load_client import LoadClient
from tests.scale.request_log import RequestLog

USERS = 2
CLIENTS_PER_USER = 2
KINDS = {
    *("upload", "tus creation", "tus chunk", "range", "file", "link", "archive", "deletion"),
    *("key", "key use", "revocation", "listing", "thumbnail"),
}
"""The kinds of requests that a load has at least once."""


class Load:
    """The clients of an address, what they know, and what they saw."""

    def __init__(self, url: str, people: AccountFactory, dice: random.Random, *, pause: float) -> None:
        """`pause`: the longest pause of a client between two actions, in seconds."""
        self.log = RequestLog()
        self.libraries: list[tuple[Account, AcknowledgedLibrary]] = [
            (people.add(), AcknowledgedLibrary()) for _ in range(USERS)
        ]
        self._clients = [
            LoadClient(url, account, library, self.log, dice.randrange(2**32), pause=pause)
            for account, library in self.libraries
            for _ in range(CLIENTS_PER_USER)
        ]

    @property
    def has_failed(self) -> bool:
        return any(client.has_failed for client in self._clients)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send requests within the block. At its end, the actions under way are finished, and failures raised."""
        for client in self._clients:
            client.begin()
        try:
            yield
        finally:
            failures: list[BaseException] = []
            for client in self._clients:
                try:
                    client.end()
                except BaseException as failure:  # noqa: BLE001 - the others end first
                    failures.append(failure)
            if failures:
                raise failures[0]
