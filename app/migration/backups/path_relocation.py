"""Rewrites the paths of managed files while a backup is restored to another media location or bucket. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from app.catalog.backup.dump import DumpedTable, JsonValue
from app.config import Settings

PATH_COLUMNS = {"file": ("path", "copy_path"), "migration_item": ("source_path", "target_path")}
"""The columns with paths of managed files, by table."""


class MediaLocationDiffers(Exception):
    """The media location of the backup differs from that of the settings; the text names both."""

    def __init__(self, setting: str, old: str, new: str) -> None:
        super().__init__(
            f"{setting}: the backup's files lie below {old}, not {new}: set it so, or pass --relocate to have them looked for there"
        )


def bucket_path_prefix(settings: Settings) -> str | None:
    """The prefix of paths in the bucket; None where no bucket is set."""
    if settings.s3_bucket is None:
        return None
    return f"s3://{settings.s3_bucket}/{settings.s3_prefix}".rstrip("/")


class PathRelocation:
    """`old_media` and `old_bucket` are the locations of the backup. Paths below them are rewritten with `is_allowed`, otherwise they raise
    `MediaLocationDiffers`."""

    def __init__(self, settings: Settings, old_media: str, old_bucket: str | None, *, is_allowed: bool) -> None:
        self.relocated_paths = 0
        self._is_allowed = is_allowed
        locations = [
            ("IMMICH_MEDIA_LOCATION", old_media, str(settings.media_location)),
            ("S3_BUCKET or S3_PREFIX", old_bucket, bucket_path_prefix(settings)),
        ]
        self._moved_locations = [
            (setting, f"{old.rstrip('/')}/", new) for setting, old, new in locations if old is not None and old != new
        ]

    def rewrite_paths(self, table: DumpedTable, rows: Sequence[list[JsonValue]]) -> None:
        """Changes the rows in place. Raises `MediaLocationDiffers`."""
        path_columns = PATH_COLUMNS.get(table.name, ()) if self._moved_locations else ()
        for index, column in enumerate(table.columns):
            if column.name in path_columns:
                for row in rows:
                    row[index] = self._relocate_path(row[index])

    def _relocate_path(self, path: JsonValue) -> JsonValue:
        for setting, old, new in self._moved_locations:
            if isinstance(path, str) and path.startswith(old):
                if not self._is_allowed or new is None:
                    raise MediaLocationDiffers(setting, old.rstrip("/"), new or "in any bucket")
                self.relocated_paths += 1
                return f"{new.rstrip('/')}/{path.removeprefix(old)}"
        return path
