"""Checks that the media location and the folders of foreign files do not overlap: mediavault writes into the one, and never into the
others."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from app.catalog.catalog import Catalog
from app.health.media_folder import MountCheckFailed
from app.health.mount_states import MountCondition


async def refuse_foreign_media_location(catalog: Catalog, media_location: Path) -> None:
    """Raises `MountCheckFailed` where the media location is a foreign root, lies in one, or holds one; or `CatalogError`."""
    roots = await catalog.foreign_files.list_roots()
    if roots and (overlapping := await asyncio.to_thread(find_overlapping_root, media_location, roots)) is not None:
        raise MountCheckFailed(
            MountCondition.NOT_OURS,
            f"IMMICH_MEDIA_LOCATION: {media_location} overlaps {overlapping}, whose files belong to another program",
        )


def find_overlapping_root(media_location: Path, roots: list[str]) -> str | None:
    """The first root that is the folder, lies in it, or holds it; links are resolved. Blocking."""
    location = os.path.realpath(media_location)
    for root in roots:
        real = os.path.realpath(root)
        if location == real or location.startswith(f"{real}/") or real.startswith(f"{location}/"):
            return root
    return None
