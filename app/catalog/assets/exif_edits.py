"""EXIF values that a user has edited. They are stored beside the values that were read, so that reading a file again changes only what nobody has
edited. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

ExifValues = Mapping[str, object]

EDITABLE_FIELDS = ("description", "rating", "latitude", "longitude", "dateTimeOriginal", "timeZone")
"""EXIF fields that users may edit."""


def merge_edits(edits: ExifValues | None, known: ExifValues | None, changes: ExifValues) -> dict[str, object]:
    """The edits of an asset after a user's `changes`. `edits`: those before; None where an older version, which did not record edits, may have
    made some. Then every value of `known`, the asset's EXIF, counts as one."""
    if edits is None:
        edits = {name: value for name, value in (known or {}).items() if name in EDITABLE_FIELDS}
    return {**edits, **changes}


def find_unrecorded_edits(known: ExifValues | None, read: ExifValues) -> dict[str, object]:
    """The edits of an asset that an older version has read, which did not record them: the values of `known`, the asset's EXIF, that differ from
    those of the file itself, `read`. Users could not edit the zone apart from the date."""
    edits = {
        name: value
        for name, value in (known or {}).items()
        if name in EDITABLE_FIELDS and not _is_same(value, read.get(name))
    }
    if "dateTimeOriginal" not in edits:
        edits.pop("timeZone", None)
    return edits


def _is_same(one: object, other: object) -> bool:
    if one == other or not (isinstance(one, str) and isinstance(other, str)):
        return one == other
    try:
        return _parse_moment(one) == _parse_moment(other)
    except (ValueError, OverflowError):
        return False


def _parse_moment(text: str) -> datetime:
    """Without a zone it counts as UTC, as in the asset's dates."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
