"""What a caller that sees no locked assets (`Identity.sees_locked`) may ask for: to it a locked asset is as one that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from uuid import UUID

from app.api.authentication.authenticator import Identity
from app.catalog.catalog import Catalog
from app.catalog.errors import NotFound
from app.catalog.schema.records import AssetFilters, Visibility


async def check_visible(caller: Identity, catalog: Catalog, asset_ids: Iterable[UUID]) -> None:
    """Raises `NotFound` with those of the caller's assets that are locked, where the caller sees none."""
    if caller.sees_locked:
        return
    assets = await catalog.assets.get_many_owned(caller.user.id, asset_ids)
    locked = [asset.id for asset in assets.values() if asset.visibility is Visibility.LOCKED]
    if locked:
        raise NotFound("asset", locked)


def leave_out_locked(caller: Identity, filters: AssetFilters) -> AssetFilters:
    """The filters of a search, without locked assets where the caller sees none."""
    return filters if caller.sees_locked else replace(filters, visibilities=filters.visibilities - {Visibility.LOCKED})


def asks_in_vain(caller: Identity, visibility: Visibility | None) -> bool:
    """Whether the caller asks for locked assets and sees none."""
    return visibility is Visibility.LOCKED and not caller.sees_locked
