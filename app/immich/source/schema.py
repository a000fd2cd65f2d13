"""Which tables and columns of Immich are read, and which of them a database has. Versions of Immich differ by columns; the
version's number is never asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.immich.errors import NotImmich

_REQUIRED = {
    "user": "id email",
    "asset": "id ownerId type originalPath originalFileName fileCreatedAt checksum",
    "asset_file": "assetId type path",
}

_OPTIONAL = {
    "user": "name password isAdmin quotaSizeInBytes quotaUsageInBytes profileImagePath profileChangedAt createdAt updatedAt deletedAt",
    "api_key": "id name key userId permissions createdAt updatedAt",
    "library": "id name ownerId importPaths exclusionPatterns createdAt updatedAt deletedAt",
    "asset": "fileModifiedAt localDateTime checksumAlgorithm livePhotoVideoId isFavorite duration thumbhash isOffline isExternal libraryId"
    " deletedAt status visibility width height deviceAssetId deviceId encodedVideoPath sidecarPath createdAt updatedAt",
    "asset_file": "isEdited updatedAt",
    "asset_exif": "assetId make model exifImageWidth exifImageHeight fileSizeInByte orientation dateTimeOriginal modifyDate lensModel"
    " fNumber focalLength iso latitude longitude city state country description fps exposureTime timeZone projectionType rating"
    " updatedAt",
    "asset_audit": "assetId deletedAt",
    "person": "id ownerId name thumbnailPath createdAt updatedAt",
    "move_history": "entityId pathType oldPath newPath",
    "system_metadata": "key value",
    "version_history": "version createdAt",
}

_ON_REQUEST = {"session": "id userId token expiresAt deviceType createdAt"}
"""Tables that are read only where a setting says so: the role need not be allowed to."""

_COMPARED: dict[str, str] = dict.fromkeys(("asset", "asset_file", "asset_exif", "person"), "updateId")
"""Columns by which rows are chosen, where a database has them."""

_IGNORED = {
    "user": "storageLabel status oauthId shouldChangePassword avatarColor pinCode clusterGroupId isOnboarded metadata updateId",
    "api_key": "updateId",
    "library": "refreshedAt updateId",
    "asset": "stackId duplicateId originalThumbhash isEdited",
    "asset_audit": "id ownerId",
    "asset_file": "id createdAt isProgressive isTransparent",
    "asset_exif": "colorspace bitsPerSample livePhotoCID autoStackId profileDescription lockedProperties tags",
    "person": "isHidden isFavorite birthDate color faceAssetId",
    "move_history": "id",
    "version_history": "id",
}
"""Known columns that are not read."""

NOT_TAKEN_OVER = (
    "album", "tag", "shared_link", "memory", "stack", "asset_face", "partner", "activity", "session",
)  # fmt: skip
"""Tables whose rows are counted and stay with Immich."""

OPTIONAL_IN_SOME_VERSIONS = frozenset(
    f"{table}.{column}"
    for table, columns in {
        "asset": "checksumAlgorithm deviceAssetId deviceId encodedVideoPath sidecarPath width height",
        "asset_file": "isEdited",
    }.items()
    for column in columns.split()
)
"""Columns that one of the known versions lacks: their absence needs no mention."""

_READ = {
    table: tuple(f"{_REQUIRED.get(table, '')} {_OPTIONAL.get(table, '')}".split())
    for table in dict.fromkeys((*_REQUIRED, *_OPTIONAL))
}
_READ_ON_REQUEST = {table: tuple(names.split()) for table, names in _ON_REQUEST.items()}


@dataclass(frozen=True, slots=True)
class SourceSchema:
    """The columns of the tables that the role may read. `missing` and `unknown` name columns as `table.column`."""

    columns: Mapping[str, frozenset[str]]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]

    def has(self, table: str, column: str | None = None) -> bool:
        found = self.columns.get(table)
        return found is not None and (column is None or column in found)

    def list_read_columns(self, table: str) -> tuple[str, ...]:
        """The columns of `table` that are read, those that this database lacks included."""
        return _READ_ON_REQUEST.get(table) or _READ[table]


def build_schema(found: Iterable[tuple[str, str]]) -> SourceSchema:
    """`found`: tables and columns of `information_schema.columns`. Raises `NotImmich`."""
    columns: dict[str, set[str]] = {}
    for table, column in found:
        columns.setdefault(table, set()).add(column)
    for table, names in _REQUIRED.items():
        lacking = [name for name in names.split() if name not in columns.get(table, ())]
        if lacking:
            raise NotImmich(
                f"the database has no column {table}.{lacking[0]}, or the role may not read it: "
                "this is no database of Immich 2.5 to 3, or the role lacks its rights (see docs/immich.md)"
            )
    missing = [
        f"{table}.{name}"
        for table, names in _READ.items()
        for name in names
        if name not in columns.get(table, ()) and f"{table}.{name}" not in OPTIONAL_IN_SOME_VERSIONS
    ]
    unknown = [
        f"{table}.{name}"
        for table, names in _READ.items()
        for name in sorted(
            columns.get(table, set()) - {*names, *f"{_COMPARED.get(table, '')} {_IGNORED.get(table, '')}".split()}
        )
    ]
    return SourceSchema({table: frozenset(names) for table, names in columns.items()}, tuple(missing), tuple(unknown))
