"""The services that API tests share: one of each stack at a time, with a connection to its catalogue for the comparison after each test."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from tests.api.consistency import open_engine
from tests.real.service import Service
from tests.real.stacks import Engine, Stacks

MOST_OBJECTS = 60
"""Each comparison lists all objects: SeaweedFS takes 0.1 ms of CPU for each, because the folders of most hold nothing else. A start takes 0.2 s."""


@dataclass(frozen=True, slots=True)
class SharedService:
    service: Service
    engine: sa.Engine


class SharedServices:
    """Starts services at first use, and replaces those whose storage has filled."""

    def __init__(self, stacks: Stacks, folders: pytest.TempPathFactory) -> None:
        self._stacks = stacks
        self._folders = folders
        self._shared: dict[Engine, SharedService] = {}

    def get(self, stack: Engine) -> Service:
        """The service of `stack`; a new one if the last holds more than `MOST_OBJECTS` objects. Not within a module, whose fixtures may keep
        what they have uploaded."""
        shared = self._shared.get(stack)
        if shared is not None and len(shared.service.stack.objects()) > MOST_OBJECTS:
            self._close(self._shared.pop(stack))
            shared = None
        if shared is None:
            place = self._stacks.create(stack, self._folders.mktemp(f"service-{stack}"), tables=False)
            service = Service(place)
            service.start()
            shared = self._shared[stack] = SharedService(service, open_engine(place.db_url))
        return shared.service

    def get_engine(self, service: Service) -> sa.Engine | None:
        """An engine that keeps a connection to the catalogue of `service`; None for the service of another fixture."""
        for shared in self._shared.values():
            if shared.service is service:
                return shared.engine
        return None

    def close(self) -> None:
        for shared in self._shared.values():
            self._close(shared)
        self._shared.clear()

    def _close(self, shared: SharedService) -> None:
        shared.engine.dispose()
        shared.service.close()
