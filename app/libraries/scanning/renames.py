"""What becomes of the files of a batch whose names tell nothing: those with a new name, and those with the name of another file. Pure.

A file that is known under another name keeps its asset. Whose name it took loses that: its file is found under another name,
in this batch or a later one, or it is gone. So names go round in circles and chains, and each asset stays with its file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.catalog.schema.library_records import KnownFile, ListedFile, ScanChanges, ScannedFile
from app.catalog.schema.records import AssetType
from app.formats import MediaKind, find_format
from app.libraries.scanning.diff import has_same_content
from app.storage.local.file_reader import datetime_from_ns


@dataclass(frozen=True, slots=True)
class UnmatchedFile:
    """`name_owner` is the known file whose name it has; None where the name is new."""

    folder: str
    listed: ListedFile
    name_owner: KnownFile | None = None


@dataclass(slots=True)
class UnresolvedFiles:
    """What a batch could not settle: `folders` hold files that may be changed ones, or may have taken the name of one that went elsewhere. `displaced`
    are known files, there until now, that lost their name and were not found under another one, with the folders that they were in."""

    folders: set[str] = field(default_factory=set)
    displaced: dict[UUID, str] = field(default_factory=dict)


def resolve_renames(
    files: Sequence[UnmatchedFile], renamed: Mapping[int, KnownFile], changes: ScanChanges, *, all_seen: bool
) -> UnresolvedFiles:
    """Add to `changes` what becomes of each; `renamed` says which are known files, by the place in `files`. `all_seen`: no known file
    will turn up elsewhere any more."""
    left = UnresolvedFiles()
    moved = {former.asset_id for former in renamed.values()}
    for place, arrival in enumerate(files):
        folder, found, former = arrival.folder, arrival.listed, arrival.name_owner
        itself = renamed.get(place)
        if itself is not None:
            changes.renamed.append((itself.asset_id, build_scanned_file(folder, found)))
            if itself.missing:
                changes.returned.append(itself.asset_id)
            if former is not None:
                changes.displaced.append((former.asset_id, build_scanned_file(folder, found)))
                if former.asset_id not in moved and not former.missing:
                    left.displaced[former.asset_id] = folder
        elif former is None or former.asset_id in moved:
            changes.new.append(build_scanned_file(folder, found))
        elif has_same_content(former, found):
            changes.refreshed.append((former.asset_id, found))
            _restore_missing(former, changes)
        elif all_seen:
            changes.changed.append((former.asset_id, build_scanned_file(folder, found)))
            _restore_missing(former, changes)
        else:
            left.folders.add(folder)
    return left


def build_scanned_file(folder: str, listed: ListedFile) -> ScannedFile:
    media = find_format(listed[0])
    if media is None:
        raise ValueError("a file of no known type was listed")
    kind = AssetType.VIDEO if media.kind is MediaKind.VIDEO else AssetType.IMAGE
    return ScannedFile(folder, listed, kind, media.mime_type, datetime_from_ns(listed[4]))


def _restore_missing(name_owner: KnownFile, changes: ScanChanges) -> None:
    if name_owner.missing:
        changes.returned.append(name_owner.asset_id)
