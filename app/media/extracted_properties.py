"""Completes what was extracted from an original by what only the asset or the picture tells: a date, the size as stored, damage. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.catalog.assets.derivatives import ExtractedProperties
from app.catalog.schema.records import Asset, AssetType

_DAMAGE = "originalDamage"
"""Name of the damage among an asset's EXIF values."""

_UNKNOWN_FILE_TIME = datetime(1970, 1, 2, tzinfo=UTC)
"""File systems and clients give the beginning of 1970 for unknown."""

_CLOCK_TOLERANCE = timedelta(days=1)
_FIRST_TURNED_ORIENTATION = 5


def complete_properties(asset: Asset, properties: ExtractedProperties, damage: str | None) -> ExtractedProperties:
    """`properties` with the date of the file if the metadata has none, with a size of the picture that is consistent with its orientation, and with
    the `damage` of the original (see `ProcessingResult`). Unchanged if no metadata was read."""
    if "exif" not in properties:
        return properties
    completed = properties.copy()
    exif = dict(properties["exif"])
    completed["exif"] = exif
    if "taken_at" not in properties:
        taken_at = choose_file_date(asset)
        exif["dateTimeOriginal"] = taken_at.isoformat()
        if taken_at != asset.file_created_at:
            completed |= ExtractedProperties(taken_at=taken_at, taken_at_local=taken_at)
    if asset.type is AssetType.IMAGE:
        _complete_size(asset, completed, exif)
    if damage is not None:
        exif[_DAMAGE] = damage
    return completed


def get_damage(asset: Asset) -> str | None:
    """What is wrong with the original although its picture could be made, as the last processing found."""
    damage = (asset.exif or {}).get(_DAMAGE)
    return damage if isinstance(damage, str) else None


def choose_file_date(asset: Asset) -> datetime:
    """The date of an original whose metadata gives none: the earlier of creation and modification, as the client or the file system tells them;
    the time of the upload if both are in the future. Of a library's file only its modification is known: the other date may be that of former
    content or of a sidecar that is gone."""
    dates = [asset.file_modified_at]
    if asset.library_id is None:
        dates.append(asset.file_created_at)
    earliest = min((date for date in dates if date >= _UNKNOWN_FILE_TIME), default=min(dates))
    return earliest if earliest <= asset.created_at + _CLOCK_TOLERANCE else asset.created_at


def _complete_size(asset: Asset, properties: ExtractedProperties, exif: dict[str, object]) -> None:
    """The decoder knows the size better than the tags, which editors leave behind. Without a picture the tags have to do."""
    is_turned = int(str(exif.get("orientation", 1))) >= _FIRST_TURNED_ORIENTATION
    width, height = properties.get("width", asset.width), properties.get("height", asset.height)
    if width is not None and height is not None:
        exif["exifImageWidth"], exif["exifImageHeight"] = (height, width) if is_turned else (width, height)
        return
    width, height = exif.get("exifImageWidth"), exif.get("exifImageHeight")
    if isinstance(width, int) and isinstance(height, int):
        properties["width"], properties["height"] = (height, width) if is_turned else (width, height)
