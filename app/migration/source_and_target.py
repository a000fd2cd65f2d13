"""`MoveRoute`: source and target location of a move; checks of the settings and of the markers of both locations."""

from __future__ import annotations

from dataclasses import dataclass

from app.catalog.catalog import Catalog
from app.config import StorageEngine
from app.health.markers import MediaLocationCheck
from app.health.media_folder import MountCheckFailed
from app.storage.errors import StorageError
from app.storage.service import StorageLocation, StorageService

OPPOSITE_ENGINE = {StorageEngine.LOCAL: StorageEngine.S3, StorageEngine.S3: StorageEngine.LOCAL}

MEDIA_MISSING = "IMMICH_MEDIA_LOCATION: the folder is not there"
_MISSING_LOCATION = {
    StorageEngine.LOCAL: MEDIA_MISSING,
    StorageEngine.S3: "S3_BUCKET is not set",
}


class MoveRefused(Exception):
    """The command cannot be carried out; the text is one line with reason and remedy."""


@dataclass(frozen=True, slots=True)
class MoveRoute:
    source: StorageLocation
    target: StorageLocation

    def target_path(self, source_path: str) -> str:
        """Raises `InvalidKey` where the path is no valid key at the source or at the target."""
        key = self.source.paths.to_key(source_path)
        if key is None:
            raise ValueError(f"{source_path} does not lie below the source")
        return self.target.paths.to_path(key)


def find_route(storage: StorageService, to: StorageEngine) -> MoveRoute:
    """Raises `MoveRefused` where a location is not configured, or its folder is missing."""
    source, target = storage.find_location(OPPOSITE_ENGINE[to]), storage.find_location(to)
    for engine, location in ((OPPOSITE_ENGINE[to], source), (to, target)):
        if location is None:
            raise MoveRefused(_MISSING_LOCATION[engine])
    if source is None or target is None:
        raise AssertionError("refused above")
    return MoveRoute(source, target)


def require_engine(storage: StorageService, to: StorageEngine) -> None:
    """Raises `MoveRefused` unless new uploads already go to the target: otherwise the move would never end."""
    if storage.engine is not to:
        raise MoveRefused(
            f"IMMICH_STORAGE_ENGINE is {storage.engine}: set it to {to} and restart the service first, so that new files go there"
        )


async def check_media_locations(catalog: Catalog, storage: StorageService, *locations: StorageLocation) -> None:
    """Checks the markers of the locations. On an unmounted disk all files would seem to be missing, and new files would be lost. Raises
    `MoveRefused`."""
    for location in locations:
        check = MediaLocationCheck(catalog, storage, engine=location.engine)
        try:
            await check.check_markers()
        except StorageError as error:
            if isinstance(error.__cause__, MountCheckFailed):
                raise MoveRefused(error.detail) from error
            raise MoveRefused(f"{location.paths.path_prefix} cannot be used: {error.detail}") from error
        finally:
            await check.aclose()
