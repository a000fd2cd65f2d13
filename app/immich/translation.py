"""Translates rows of Immich's assets to ours. Pure: the files were looked at before, by `MediaRoots.find_many`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID, uuid5

from app.catalog.schema.import_records import FileIdentity, ImportedAsset, ImportedFile
from app.catalog.schema.records import AssetType, FileKind, Visibility
from app.formats import find_format
from app.immich.media_roots import FoundFile, PathProblem
from app.immich.problems import ProblemKind
from app.immich.source.records import SourceAsset, SourceDate, SourceFile
from app.storage.local.file_reader import datetime_from_ns

T = TypeVar("T", AssetType, Visibility)
FoundFiles = Mapping[str, FoundFile | PathProblem]

SHA1_BYTES = 20
ORIGINAL = "original"
SIDECAR = "sidecar"
DERIVATIVE_KINDS = {
    "fullsize": FileKind.FULLSIZE,
    "preview": FileKind.PREVIEW,
    "thumbnail": FileKind.THUMBNAIL,
    "encoded_video": FileKind.ENCODED_VIDEO,
}
_EXIF_NAMES = (
    "make", "model", "lensModel", "fNumber", "focalLength", "iso", "exposureTime", "orientation", "dateTimeOriginal", "modifyDate",
    "timeZone", "latitude", "longitude", "city", "state", "country", "description", "projectionType", "rating", "fps",
    "exifImageWidth", "exifImageHeight",
)  # fmt: skip
_TURNED = frozenset("5678")
"""Orientations in which width and height are exchanged."""
_OCTETS = "application/octet-stream"


@dataclass(slots=True)
class TranslatedAsset:
    """`asset` is None where nothing can be taken over; the problems say why. Each problem has an example to show."""

    asset: ImportedAsset | None = None
    problems: list[tuple[ProblemKind, str]] = field(default_factory=list[tuple[ProblemKind, str]])

    def add(self, kind: ProblemKind, example: object) -> None:
        self.problems.append((kind, str(example)))

    def refuse(self, kind: ProblemKind, example: object) -> None:
        """Record the problem for which nothing is taken over."""
        self.asset = None
        self.add(kind, example)


def list_paths(asset: SourceAsset) -> list[str]:
    """Every path that belongs to the asset, those of interrupted moves included."""
    moved = [path for paths in asset.moves.values() for path in paths]
    return list(
        dict.fromkeys([asset.original_path, *(file.path for file in asset.files if not file.is_edited), *moved])
    )


def translate_asset(asset: SourceAsset, found: FoundFiles) -> TranslatedAsset:
    """`found` has an entry for each of `list_paths`."""
    result = TranslatedAsset()
    if asset.status == "deleted":
        result.add(ProblemKind.HALF_REMOVED, f"{asset.id} {asset.original_path}")
        return result
    if asset.is_offline:
        result.add(ProblemKind.OFFLINE, f"{asset.id} {asset.original_path}")
    if asset.moves:
        result.add(ProblemKind.INTERRUPTED_MOVE, f"{asset.id} {asset.original_path}")
    original = _choose_file(asset, ORIGINAL, asset.original_path, found)
    if isinstance(original, PathProblem):
        if not (asset.is_offline and original.kind is ProblemKind.MISSING_FILE):
            result.add(original.kind, original.path)
        return result
    result.asset = _build_asset(asset, original, found, result)
    return result


def file_id(owner: UUID, kind: FileKind) -> UUID:
    """The id of the file of this kind that belongs to an asset, a user or a person: always the same."""
    return uuid5(owner, kind.value)


def _choose_file(asset: SourceAsset, type_: str, path: str, found: FoundFiles) -> FoundFile | PathProblem:
    """The file at `path`, or, if its move was interrupted, at the other path of the move."""
    for each in (path, *asset.moves.get(type_, ())):
        if isinstance(chosen := found[each], FoundFile):
            return chosen
    problem = found[path]
    assert isinstance(problem, PathProblem)  # noqa: S101 - for the type checker
    return problem


def _build_asset(asset: SourceAsset, original: FoundFile, found: FoundFiles, result: TranslatedAsset) -> ImportedAsset:
    created = _first_date(asset, result, asset.file_created_at, asset.file_modified_at, asset.created_at)
    type_ = _parse(AssetType, asset.type, AssetType.OTHER, asset, result)
    width, height = _find_dimensions(asset)
    sha1 = _find_sha1(asset, original, result)
    sidecar, derivatives = _collect_files(asset, found, result)
    updated = _first_date(asset, result, asset.updated_at, asset.created_at, created)
    return ImportedAsset(
        id=asset.id,
        owner_id=asset.owner_id,
        type=type_,
        original=_build_original(asset, original, sha1),
        identity=FileIdentity(original.device, original.inode, original.mtime_ns),
        sidecar=sidecar,
        derivatives=derivatives,
        checksum=sha1,
        original_file_name=asset.original_file_name,
        file_created_at=created,
        file_modified_at=_find_modification(asset, original, created, result),
        local_date_time=_first_date(asset, result, asset.local_date_time, created),
        created_at=_first_date(asset, result, asset.created_at, updated),
        updated_at=updated,
        deleted_at=_find_deletion(asset, updated),
        is_favorite=asset.is_favorite,
        is_offline=asset.is_offline,
        visibility=_parse(Visibility, asset.visibility, Visibility.LOCKED, asset, result),
        duration=None if type_ is AssetType.IMAGE else parse_duration(asset.duration),
        width=width,
        height=height,
        thumbhash=asset.thumbhash,
        exif=_translate_exif(asset, result),
        live_photo_video_id=asset.live_photo_video_id if type_ is AssetType.IMAGE else None,
        library_id=asset.library_id,
        device_asset_id=asset.device_asset_id,
        device_id=asset.device_id,
        named=frozenset(_find_kind(file.type) or FileKind.ORIGINAL for file in asset.files if not file.is_edited),
    )


def _build_original(asset: SourceAsset, found: FoundFile, sha1: bytes | None) -> ImportedFile:
    format_ = find_format(found.path) or find_format(asset.original_file_name)
    kind = FileKind.ORIGINAL if asset.library_id is None else FileKind.EXTERNAL
    mime_type = _OCTETS if format_ is None else format_.mime_type
    return ImportedFile(file_id(asset.id, FileKind.ORIGINAL), kind, found.path, found.size, mime_type, sha1)


def _find_sha1(asset: SourceAsset, original: FoundFile, result: TranslatedAsset) -> bytes | None:
    """The SHA-1 of the content. None where Immich has that of the path, or the file has not the size that Immich read: then its
    content is another one."""
    if asset.recorded_size is not None and asset.recorded_size != original.size:
        example = f"{asset.original_path}: {original.size} bytes, Immich has {asset.recorded_size}"
        result.add(ProblemKind.SIZE_DIFFERS, example)
        return None
    if asset.is_path_checksum:
        result.add(ProblemKind.PATH_CHECKSUM, asset.original_path)
        return None
    if len(asset.checksum) != SHA1_BYTES:
        result.add(ProblemKind.INVALID_CHECKSUM, f"{asset.id} {asset.checksum.hex()}")
        return None
    return asset.checksum


def _collect_files(
    asset: SourceAsset, found: FoundFiles, result: TranslatedAsset
) -> tuple[ImportedFile | None, tuple[ImportedFile, ...]]:
    """The sidecar and the derivatives that are there."""
    sidecar: ImportedFile | None = None
    derivatives: dict[FileKind, ImportedFile] = {}
    for file in asset.files:
        kind = _find_kind(file.type)
        if file.is_edited:
            result.add(ProblemKind.EDITED, file.path)
        elif kind is None:
            result.add(ProblemKind.UNKNOWN_VALUE, f"asset_file.type {file.type!r}")
        elif (built := _build_file(asset, file, kind, found, result)) is None:
            continue
        elif kind is FileKind.SIDECAR:
            sidecar = built
        else:
            derivatives[kind] = built
    return sidecar, tuple(derivatives.values())


def _find_kind(type_: str) -> FileKind | None:
    return FileKind.SIDECAR if type_ == SIDECAR else DERIVATIVE_KINDS.get(type_)


def _build_file(
    asset: SourceAsset, file: SourceFile, kind: FileKind, found: FoundFiles, result: TranslatedAsset
) -> ImportedFile | None:
    chosen = _choose_file(asset, file.type, file.path, found)
    if isinstance(chosen, PathProblem):
        result.add(chosen.kind, chosen.path)
        return None
    return build_file(asset.id, kind, chosen)


def build_file(owner: UUID, kind: FileKind, found: FoundFile) -> ImportedFile:
    """`owner`: the asset, user or person that the file belongs to."""
    format_ = find_format(found.path)
    return ImportedFile(
        file_id(owner, kind), kind, found.path, found.size, _OCTETS if format_ is None else format_.mime_type
    )


def _find_modification(asset: SourceAsset, original: FoundFile, created: datetime, result: TranslatedAsset) -> datetime:
    """Of a library's file that of the file, with which a later change of the file is noticed."""
    if asset.library_id is not None:
        return datetime_from_ns(original.mtime_ns)
    return _first_date(asset, result, asset.file_modified_at, created)


def _find_deletion(asset: SourceAsset, updated: datetime) -> datetime | None:
    if isinstance(asset.deleted_at, datetime):
        return asset.deleted_at
    return updated if asset.status == "trashed" or asset.deleted_at is not None else None


def _first_date(asset: SourceAsset, result: TranslatedAsset, *dates: SourceDate) -> datetime:
    """The first of the dates that can be stored; the beginning of 1970 if none can."""
    for date in dates:
        if isinstance(date, datetime):
            return date
        if date is not None:
            result.add(ProblemKind.UNUSABLE_DATE, f"{asset.id} {date.text}")
    return datetime(1970, 1, 1, tzinfo=UTC)


def _parse(kinds: type[T], value: str, fallback: T, asset: SourceAsset, result: TranslatedAsset) -> T:
    """The member with this value. `fallback` stands for values of later versions: a visibility that is not known shows nothing."""
    try:
        return kinds(value)
    except ValueError:
        result.add(ProblemKind.UNKNOWN_VALUE, f"{asset.id} {value!r}")
        return fallback


def parse_duration(duration: str | int | None) -> int | None:
    """Milliseconds of `0:00:01.234000`, or of a number of milliseconds; None for other texts and for no duration."""
    if duration is None or isinstance(duration, int):
        return duration or None
    try:
        hours, minutes, seconds = duration.split(":")
        return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * 1000) or None
    except (ValueError, OverflowError):
        return None


def _find_dimensions(asset: SourceAsset) -> tuple[int | None, int | None]:
    """Width and height as the picture is shown."""
    if asset.width is not None and asset.height is not None:
        return asset.width, asset.height
    exif = asset.exif or {}
    width, height = exif.get("exifImageWidth"), exif.get("exifImageHeight")
    return (height, width) if exif.get("orientation") in _TURNED else (width, height)


def _translate_exif(asset: SourceAsset, result: TranslatedAsset) -> dict[str, object] | None:
    if asset.exif is None:
        return None
    exif: dict[str, object] = {}
    for name in _EXIF_NAMES:
        value: Any = asset.exif.get(name)
        if isinstance(value, datetime):
            exif[name] = value.isoformat()
        elif isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
            exif[name] = value
        elif value is not None:
            result.add(ProblemKind.UNUSABLE_DATE, f"{asset.id} {name}")
    return exif
