"""`ForeignRootStates`: whether the folders of foreign files are mounted and answer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from app.catalog.catalog import Catalog
from app.health.mount_states import MountCondition, MountKind, MountState
from app.storage.errors import StorageError, StorageUnavailable
from app.storage.service import StorageService

CHECK_SECONDS = 3.0
NO_ANSWER = "does not answer"


class ForeignRootStates:
    def __init__(self, catalog: Catalog, storage: StorageService) -> None:
        self._catalog = catalog
        self._storage = storage
        self._states: dict[str, MountState] = {}

    async def list_mount_states(self) -> list[MountState]:
        """Raises `CatalogError`."""
        roots = await self._catalog.foreign_files.list_roots()
        states = await asyncio.gather(*(self._check(root) for root in roots))
        self._states = {state.name: state for state in states}
        return list(states)

    async def _check(self, root: str) -> MountState:
        condition, error = await self._find_condition(root)
        known = self._states.get(root)
        since = known.since if known is not None and known.state is condition else datetime.now(UTC)
        return MountState(root, MountKind.FOREIGN, condition, since, error, None, None)

    async def _find_condition(self, root: str) -> tuple[MountCondition, str | None]:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._storage.check_foreign_root(root)
        except TimeoutError:
            return MountCondition.UNAVAILABLE, f"{root}: {NO_ANSWER}"
        except StorageUnavailable as error:
            return MountCondition.UNMOUNTED, f"{root}: {error.detail}"
        except StorageError as error:
            return MountCondition.UNAVAILABLE, f"{root}: {error.detail}"
        return MountCondition.OK, None
