"""The folders that a new import path, or a folder that an export writes into, may not overlap."""

from __future__ import annotations

from uuid import UUID

from app.catalog.catalog import Catalog
from app.catalog.schema.library_records import LibraryState
from app.config import Settings
from app.health.markers import MEDIA_FOLDERS
from app.libraries.import_paths.overlap import ReservedFolder


def list_reserved_folders(settings: Settings) -> tuple[ReservedFolder, ...]:
    """The folders that mediavault writes to. Each media folder is listed by itself, too, since it may be a mount point."""
    media = settings.media_location
    return (
        ReservedFolder("the media location", str(media)),
        *(ReservedFolder(f"the media folder {name!r}", str(media / name)) for name in MEDIA_FOLDERS),
        ReservedFolder("the staging folder", str(settings.staging_folder)),
    )


async def list_read_folders(catalog: Catalog, *, except_library: UUID | None = None) -> list[ReservedFolder]:
    """The folders that mediavault only reads: the import paths of all libraries but one, and the folders of another program's files."""
    reserved: list[ReservedFolder] = []
    for library in await catalog.libraries.list():
        if library.id != except_library:
            name, is_offline = (
                f"an import path of the library {library.name!r}",
                library.state is LibraryState.UNMOUNTED,
            )
            reserved += [ReservedFolder(name, path, is_offline=is_offline) for path in library.import_paths]
    foreign_roots = await catalog.foreign_files.list_roots()
    return reserved + [ReservedFolder("a folder of another program's files", path) for path in foreign_roots]
