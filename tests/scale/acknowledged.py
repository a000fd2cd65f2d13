"""What the service has acknowledged to the clients: the model that every answer is compared with. Used by many threads."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from tests.scale.contents import Content


class AssetState(Enum):
    """`DELETING`: its deletion was sent, and was not acknowledged yet."""

    KEPT = "kept"
    DELETING = "deleting"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class KnownAsset:
    """`changed_at`: when it came into its state, on the monotonic clock. `readers`: downloads that need it until their end."""

    id: str
    content: Content
    state: AssetState
    changed_at: float
    readers: int = 0


@dataclass(frozen=True, slots=True)
class RevokedKey:
    key: str
    revoked_at: float


class AcknowledgedLibrary:
    """The assets and revoked keys of one user."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._assets: dict[str, KnownAsset] = {}
        self.revoked_keys: list[RevokedKey] = []

    def add(self, asset_id: str, content: Content) -> None:
        with self._lock:
            assert asset_id not in self._assets, f"{asset_id} was the answer to two uploads"
            self._assets[asset_id] = KnownAsset(asset_id, content, AssetState.KEPT, time.monotonic())

    def add_revoked(self, key: str) -> None:
        self.revoked_keys.append(RevokedKey(key, time.monotonic()))

    def in_state(self, state: AssetState) -> list[KnownAsset]:
        with self._lock:
            return [asset for asset in self._assets.values() if asset.state is state]

    def choose(self, dice: random.Random, number: int = 1) -> list[KnownAsset]:
        """At most so many kept assets."""
        kept = self.in_state(AssetState.KEPT)
        return dice.sample(kept, min(number, len(kept)))

    @contextmanager
    def reading(self, assets: Iterable[KnownAsset]) -> Iterator[list[KnownAsset]]:
        """Those of the assets that are kept; nobody deletes them within the block."""
        with self._lock:
            kept = [asset for asset in assets if asset.state is AssetState.KEPT]
            for asset in kept:
                asset.readers += 1
        try:
            yield kept
        finally:
            with self._lock:
                for asset in kept:
                    asset.readers -= 1

    def begin_deletion(self, dice: random.Random) -> KnownAsset | None:
        """Choose an asset to delete, which nobody is reading."""
        with self._lock:
            kept = [each for each in self._assets.values() if each.state is AssetState.KEPT and not each.readers]
            if not kept:
                return None
            asset = dice.choice(kept)
            self._change(asset, AssetState.DELETING)
            return asset

    def end_deletion(self, asset: KnownAsset) -> None:
        with self._lock:
            self._change(asset, AssetState.GONE)

    def _change(self, asset: KnownAsset, state: AssetState) -> None:
        asset.state, asset.changed_at = state, time.monotonic()
