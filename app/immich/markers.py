"""Immich's markers: a file `.immich` in each folder of its media location. A folder without it is not mounted, or is not Immich's."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Sequence
from pathlib import Path

from app.catalog.catalog import Catalog
from app.immich.errors import MarkerMissing
from app.immich.media_roots import MediaRoot, MediaRoots

FOLDERS = ("upload", "library", "thumbs", "encoded-video", "profile", "backups")
MARKER = ".immich"
LOCATION_FLAG = "immich.media_location"
"""Name in `installation` of the media location as Immich's container sees it, which the last import has read."""


async def record_media_location(catalog: Catalog, location: str | None) -> None:
    if location is not None and await catalog.installation.get_flag(LOCATION_FLAG) != location:
        await catalog.installation.set_flag(LOCATION_FLAG, location)


async def require_markers(catalog: Catalog, source_name: str) -> None:
    """Each of Immich's folders in which foreign files lie must hold its marker. `source_name`: of the import. Raises `MarkerMissing`, which
    names all folders without one, and `CatalogError`."""
    folders = [
        folder
        for folder in await _list_folders(catalog, source_name)
        if await catalog.foreign_files.has_any_below(folder)
    ]
    missing = await asyncio.to_thread(lambda: [folder for folder in folders if not _has_marker(folder)])
    if missing:
        raise MarkerMissing(
            f"no marker ({MARKER}) of Immich's in {', '.join(missing)}: is it mounted, and is it Immich's folder? Nothing was changed"
        )


async def _list_folders(catalog: Catalog, source_name: str) -> list[str]:
    """Where Immich's folders lie on this machine. Those directly below each root where the media location is not known."""
    source = await catalog.import_sources.get(source_name)
    location = await catalog.installation.get_flag(LOCATION_FLAG)
    if source is None or location is None:
        return [f"{root}/{name}" for root in await catalog.foreign_files.list_roots() for name in FOLDERS]
    roots = _build_roots(source.media_roots)
    translated = [roots.translate(f"{location.rstrip('/')}/{name}") for name in FOLDERS]
    return [path for path in translated if isinstance(path, str)]


def _build_roots(stored: Sequence[str]) -> MediaRoots:
    """The roots of an import, as the catalogue has them. Their folders need not exist."""
    roots = [MediaRoot(container, host) for container, _, host in (text.partition("=") for text in stored)]
    return MediaRoots(sorted(roots, key=lambda root: len(root.container), reverse=True))


def _has_marker(folder: str) -> bool:
    try:
        return stat.S_ISREG(Path(folder, MARKER).lstat().st_mode)
    except OSError:
        return False
