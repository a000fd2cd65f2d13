"""Rename detection: decides for each file whose name is new, or belonged to another inode, which asset it is, if any. Pure: no I/O.

Such files have a new name, or the name of an asset whose file is another one by inode. A file that is known under another name keeps its
asset. The asset whose name it took is displaced: its file turns up under another name, in this batch or a later one, or is gone. So chains
and circles of renames (a to b, b to c, c to a) leave each asset with its file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.catalog.schema.library_records import KnownFile, ListedFile, ListedSidecar, ScanChanges, ScannedFile
from app.catalog.schema.records import AssetType
from app.formats import MediaKind, find_format
from app.libraries.scanning.diff import has_same_content
from app.storage.local.file_reader import datetime_from_ns


@dataclass(frozen=True, slots=True)
class UnmatchedFile:
    """A file found by the walk that is not the known file of that name. `name_owner` is that known file; None if the name is new."""

    folder: str
    listed: ListedFile
    name_owner: KnownFile | None = None
    sidecar: ListedSidecar | None = None


@dataclass(slots=True)
class UnresolvedFiles:
    """Files that a batch could not decide on. `folders`: folders with a file under the name of another one; whether that one was replaced or
    renamed is known only after all other folders were listed. `displaced`: known files, not missing before, that lost their name to another file
    and were not found in this batch; the value is the folder that they were in."""

    folders: set[str] = field(default_factory=set)
    displaced: dict[UUID, str] = field(default_factory=dict)


def resolve_renames(
    files: Sequence[UnmatchedFile], renamed: Mapping[int, KnownFile], changes: ScanChanges, *, all_seen: bool
) -> UnresolvedFiles:
    """Adds a decision on each file to `changes`; returns what cannot be decided yet. `renamed`, from `find_renamed`: the known file that a file
    is, by its index in `files`. `all_seen`: all other folders were listed, so that no known file can still turn up elsewhere."""
    unresolved = UnresolvedFiles()
    moved = {known.asset_id for known in renamed.values()}
    for index, file in enumerate(files):
        folder, listed, name_owner = file.folder, file.listed, file.name_owner
        scanned = build_scanned_file(folder, listed, file.sidecar)
        renamed_from = renamed.get(index)
        if renamed_from is not None:
            changes.renamed.append((renamed_from.asset_id, scanned))
            _compare_sidecar(renamed_from, file, changes)
            if renamed_from.missing:
                changes.returned.append(renamed_from.asset_id)
            if name_owner is not None:
                changes.displaced.append((name_owner.asset_id, scanned))
                if name_owner.asset_id not in moved and not name_owner.missing:
                    unresolved.displaced[name_owner.asset_id] = folder
        elif name_owner is None or name_owner.asset_id in moved:
            changes.new.append(scanned)
        elif has_same_content(name_owner, listed):
            changes.refreshed.append((name_owner.asset_id, listed))
            _compare_sidecar(name_owner, file, changes)
            _restore_missing(name_owner, changes)
        elif all_seen:
            changes.changed.append((name_owner.asset_id, scanned))
            _compare_sidecar(name_owner, file, changes)
            _restore_missing(name_owner, changes)
        else:
            unresolved.folders.add(folder)
    return unresolved


def build_scanned_file(folder: str, listed: ListedFile, sidecar: ListedSidecar | None = None) -> ScannedFile:
    media = find_format(listed[0])
    if media is None:
        raise ValueError("a file of no known type was listed")
    kind = AssetType.VIDEO if media.kind is MediaKind.VIDEO else AssetType.IMAGE
    return ScannedFile(folder, listed, kind, media.mime_type, datetime_from_ns(listed[4]), sidecar)


def _compare_sidecar(known: KnownFile, file: UnmatchedFile, changes: ScanChanges) -> None:
    """A sidecar that moved to another folder under its name, with its file, is the same."""
    if known.sidecar != file.sidecar:
        changes.sidecars.append((known.asset_id, file.sidecar))


def _restore_missing(name_owner: KnownFile, changes: ScanChanges) -> None:
    if name_owner.missing:
        changes.returned.append(name_owner.asset_id)
