"""Compares assets of another installation with the catalogue, and decides what is to be written. Pure: the rows were read before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from app.catalog.assets.live_photo_pairs import LINKED_BY_HAND
from app.catalog.imports.imported_files import is_same_content
from app.catalog.schema.import_records import ImportedAsset, ImportedFile
from app.catalog.schema.records import AssetType, FileKind
from app.unicode_folding import fold_case

_FILLED_IN = ("width", "height", "duration", "thumbhash", "exif")
"""What this service finds out itself where the source does not know it."""
_COPIED = (
    "owner_id", "type", "original_file_name", "file_created_at", "file_modified_at", "local_date_time", "created_at", "updated_at",
    "deleted_at", "is_favorite", "is_offline", "visibility", "duration", "width", "height", "thumbhash", "exif", "library_id",
    "device_asset_id", "device_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KnownRows:
    """Rows of the catalogue that concern a batch. `files`: by id; `written`: when files of libraries were last written, in nanoseconds
    since 1970, by asset; `path_owners`: ids of files by path; `checksum_owners`: ids of assets by owner and checksum; `derivatives`: ids
    of files by asset and kind; `videos`: those of the batch's videos of live photos that are in the catalogue."""

    assets: Mapping[UUID, Any]
    files: Mapping[UUID, Any]
    written: Mapping[UUID, int]
    path_owners: Mapping[str, UUID]
    checksum_owners: Mapping[tuple[UUID, bytes], UUID]
    derivatives: Mapping[UUID, Mapping[FileKind, UUID]]
    videos: frozenset[UUID]


@dataclass(slots=True)
class BatchChanges:
    """What a batch writes. `new_assets` in an order in which videos come before their photos. `path_conflicts`, `checksum_conflicts`:
    paths and assets that are left out."""

    new_files: list[tuple[UUID, ImportedFile]] = field(default_factory=list[tuple[UUID, ImportedFile]])
    changed_files: list[ImportedFile] = field(default_factory=list[ImportedFile])
    rewritten: set[UUID] = field(default_factory=set[UUID])
    """Those of the changed files whose content is another one."""
    file_owners: dict[UUID, UUID] = field(default_factory=dict[UUID, UUID])
    released: list[UUID] = field(default_factory=list[UUID])
    new_assets: list[ImportedAsset] = field(default_factory=list[ImportedAsset])
    changed_assets: list[tuple[UUID, dict[str, Any]]] = field(default_factory=list[tuple[UUID, dict[str, Any]]])
    relisted: list[ImportedAsset] = field(default_factory=list[ImportedAsset])
    """Of libraries: whose file has another path, size or time."""
    new_derivatives: list[tuple[UUID, FileKind, UUID]] = field(default_factory=list[tuple[UUID, FileKind, UUID]])
    replaced_derivatives: list[tuple[UUID, FileKind, UUID]] = field(default_factory=list[tuple[UUID, FileKind, UUID]])
    removed_derivatives: list[tuple[UUID, FileKind]] = field(default_factory=list[tuple[UUID, FileKind]])
    obsolete_files: list[tuple[UUID, UUID]] = field(default_factory=list[tuple[UUID, UUID]])
    """Owners and ids of files that nothing refers to afterwards."""
    to_process: list[tuple[UUID, AssetType]] = field(default_factory=list[tuple[UUID, AssetType]])
    path_conflicts: list[str] = field(default_factory=list[str])
    checksum_conflicts: list[UUID] = field(default_factory=list[UUID])
    refused: set[UUID] = field(default_factory=set[UUID])
    """Assets that are left out."""
    unchanged: set[UUID] = field(default_factory=set[UUID])


def list_files(asset: ImportedAsset) -> list[ImportedFile]:
    return [file for file in (asset.original, asset.sidecar, *asset.derivatives) if file is not None]


def compare_batch(batch: Sequence[ImportedAsset], known: KnownRows) -> BatchChanges:
    """Of two assets that name the same path or have the same checksum the first one gets it, and of one in the catalogue and one that is
    not the former, unless the batch moves it away."""
    changes = BatchChanges()
    accepted = _videos_first(_without_disproved_checksum(asset, known) for asset in batch)
    while True:
        claims = _Claims(known, accepted)
        refused = {asset.id for asset in accepted if not claims.claim_asset(asset, changes)}
        changes.refused |= refused
        claimed = [_without_conflicts(asset, claims, changes) for asset in accepted if asset.id not in refused]
        if claimed == accepted:
            break
        accepted = claimed  # what was refused stays at its path, and releases it for nobody
    present = known.videos | {asset.id for asset in accepted}
    for asset in accepted:
        _compare(asset, known, claims, present, changes)
    return changes


def _without_disproved_checksum(asset: ImportedAsset, known: KnownRows) -> ImportedAsset:
    """Without the source's checksum where the file was read, and its bytes are other ones (see `ForeignFileRepository.store_checksums`):
    the SHA-1 is in the file's row then, and not in the asset's. Where the file lies at another path now, another photo may have been read:
    then it has the checksum again, unless another asset has it by now."""
    before, file = known.assets.get(asset.id), known.files.get(asset.original.id)
    if before is None or file is None or before.checksum is not None or asset.checksum is None:
        return asset
    if file.sha1 != asset.checksum:
        return asset
    is_taken = known.checksum_owners.get((asset.owner_id, asset.checksum), asset.id) != asset.id
    return replace(asset, checksum=None) if is_taken or file.path == asset.original.path else asset


def _videos_first(batch: Iterable[ImportedAsset]) -> list[ImportedAsset]:
    return sorted(batch, key=lambda asset: asset.live_photo_video_id is not None)


class _Claims:
    """Which file of a batch gets which path, and which asset which checksum."""

    def __init__(self, known: KnownRows, batch: Sequence[ImportedAsset]) -> None:
        self._files = dict(known.path_owners)
        self._checksums = dict(known.checksum_owners)
        self._targets = {file.id: file.path for asset in batch for file in list_files(asset)}
        self._wanted = {asset.id: (asset.owner_id, asset.checksum) for asset in batch}

    def claim_asset(self, asset: ImportedAsset, changes: BatchChanges) -> bool:
        """Claims the path of the original and the checksum; records a conflict, and returns False then."""
        if not self.claim(asset.original):
            changes.path_conflicts.append(asset.original.path)
            return False
        if not self._claim_checksum(asset):
            changes.checksum_conflicts.append(asset.id)
            return False
        return True

    def claim(self, file: ImportedFile) -> bool:
        holder = self._files.get(file.path)
        if holder not in (None, file.id) and self._targets.get(holder, file.path) == file.path:
            return False
        self._files[file.path] = file.id
        return True

    def find_checksum_owner(self, owner_id: UUID, checksum: bytes) -> UUID | None:
        """The asset that gets the checksum, if one of the batch claims it."""
        return self._checksums.get((owner_id, checksum))

    def _claim_checksum(self, asset: ImportedAsset) -> bool:
        if asset.checksum is None or asset.library_id is not None:
            return True
        wanted = (asset.owner_id, asset.checksum)
        holder = self._checksums.get(wanted)
        if holder not in (None, asset.id) and self._wanted.get(holder, wanted) == wanted:
            return False
        self._checksums[wanted] = asset.id
        return True


def _without_conflicts(asset: ImportedAsset, claims: _Claims, changes: BatchChanges) -> ImportedAsset:
    """The asset without the files beside the original whose paths are taken."""
    refused = {file.id for file in list_files(asset)[1:] if not claims.claim(file)}
    if not refused:
        return asset
    beside = [file for file in (asset.sidecar, *asset.derivatives) if file is not None and file.id in refused]
    changes.path_conflicts += [file.path for file in beside]
    sidecar = None if asset.sidecar is not None and asset.sidecar.id in refused else asset.sidecar
    derivatives = tuple(file for file in asset.derivatives if file.id not in refused)
    return replace(asset, sidecar=sidecar, derivatives=derivatives)


def _compare(
    asset: ImportedAsset, known: KnownRows, claims: _Claims, present: frozenset[UUID] | set[UUID], changes: BatchChanges
) -> None:
    if asset.live_photo_video_id is not None and asset.live_photo_video_id not in present:
        asset = replace(asset, live_photo_video_id=None)
    before = known.assets.get(asset.id)
    if _is_adopted(known.files.get(asset.original.id)):
        changes.unchanged.add(asset.id)
        return
    for file in list_files(asset):
        _compare_file(asset, file, known, changes)
    removed = len(changes.removed_derivatives)
    is_file_changed = _compare_derivatives(asset, known, changes)
    has_lost = len(changes.removed_derivatives) > removed
    if before is None:
        changes.new_assets.append(asset)
        changes.to_process.append((asset.id, asset.type))
        return
    values = _changed_values(asset, before, known, claims)
    if "sidecar_id" in values and before.sidecar_id is not None:
        changes.obsolete_files.append((asset.owner_id, before.sidecar_id))
    original = known.files.get(asset.original.id)
    is_moved = original is not None and original.path != asset.original.path
    is_same = original is not None and _is_unchanged(asset, asset.original, known)
    if not is_same or has_lost or (is_moved and before.checksum is None):
        changes.to_process.append((asset.id, asset.type))
    if asset.library_id is not None and (is_moved or not is_same):
        changes.relisted.append(asset)
    if values:
        changes.changed_assets.append((asset.id, values))
    elif not is_file_changed:
        changes.unchanged.add(asset.id)


def _is_adopted(file: Any) -> bool:
    """Whether the file, which came from the source, is ours now: nothing of the source's holds for it any more."""
    return file is not None and not file.is_foreign and file.kind is not FileKind.EXTERNAL


def _compare_file(asset: ImportedAsset, file: ImportedFile, known: KnownRows, changes: BatchChanges) -> None:
    before = known.files.get(file.id)
    changes.file_owners[file.id] = asset.owner_id
    if before is None:
        changes.new_files.append((asset.owner_id, file))
        return
    if _is_adopted(before):
        return
    is_same = _is_unchanged(asset, file, known)
    if before.path != file.path or not is_same:
        changes.changed_files.append(file)
    if before.path != file.path:
        changes.released.append(file.id)
    if not is_same:
        changes.rewritten.add(file.id)


def _is_unchanged(asset: ImportedAsset, file: ImportedFile, known: KnownRows) -> bool:
    """Whether the file, which has a row, holds the same bytes as before, as far as is known. That of a library does not if its time is
    another one, as for a scan: its owner may have edited it to the same size."""
    if file.kind is FileKind.EXTERNAL and known.written.get(asset.id) != asset.identity.mtime_ns:
        return False
    return is_same_content(file, known.files[file.id])


def _compare_derivatives(asset: ImportedAsset, known: KnownRows, changes: BatchChanges) -> bool:
    """Returns whether anything changed. What this service has made stays as long as the source has nothing in its place, and the original
    holds what it was made from."""
    current = known.derivatives.get(asset.id, {})
    count = len(changes.new_derivatives) + len(changes.replaced_derivatives) + len(changes.removed_derivatives)
    for file in asset.derivatives:
        former = current.get(file.kind)
        if former is None:
            changes.new_derivatives.append((asset.id, file.kind, file.id))
        elif former != file.id:
            changes.replaced_derivatives.append((asset.id, file.kind, file.id))
            changes.obsolete_files.append((asset.owner_id, former))
    is_rewritten = asset.original.id in changes.rewritten
    made = {file.kind for file in asset.derivatives}
    for kind, former in current.items():
        row = known.files.get(former)
        if row is None or kind in made:
            continue
        if kind not in asset.named if row.is_foreign else is_rewritten:
            changes.removed_derivatives.append((asset.id, kind))
            changes.obsolete_files.append((asset.owner_id, former))
    return count != len(changes.new_derivatives) + len(changes.replaced_derivatives) + len(changes.removed_derivatives)


def _changed_values(asset: ImportedAsset, before: Any, known: KnownRows, claims: _Claims) -> dict[str, Any]:
    wanted = asset_values(asset)
    for name in _FILLED_IN:
        if wanted[name] is None:
            wanted[name] = getattr(before, name)
    if asset.checksum is None:
        wanted["checksum"] = _keep_checksum(asset, before, known, claims)
    wanted["sidecar_id"] = _choose_sidecar(asset, before)
    edits = wanted.pop("exif_edits")
    values = {name: value for name, value in wanted.items() if getattr(before, name) != value}
    if "exif" in values:
        values["exif_edits"] = edits
    return values


def _keep_checksum(asset: ImportedAsset, before: Any, known: KnownRows, claims: _Claims) -> bytes | None:
    """What was found out here stays as long as the content, unless another upload has the same checksum in the source."""
    checksum: bytes | None = before.checksum
    if checksum is None or asset.original.id not in known.files or not _is_unchanged(asset, asset.original, known):
        return None
    owner = None if asset.library_id is not None else claims.find_checksum_owner(asset.owner_id, checksum)
    return checksum if owner in (None, asset.id) else None


def _choose_sidecar(asset: ImportedAsset, before: Any) -> UUID | None:
    """A sidecar that the source names but that could not be found stays."""
    if asset.sidecar is not None:
        return asset.sidecar.id
    return before.sidecar_id if FileKind.SIDECAR in asset.named else None


def asset_values(asset: ImportedAsset) -> dict[str, Any]:
    """Columns of `asset` but the id. What the source says of the photo holds, whatever is read in the file: as edits of its owner do."""
    return {
        **{name: getattr(asset, name) for name in _COPIED},
        "file_id": asset.original.id,
        "sidecar_id": None if asset.sidecar is None else asset.sidecar.id,
        "checksum": asset.checksum,
        "folded_name": fold_case(asset.original_file_name),
        "exif_edits": None if asset.exif is None else asset.exif | LINKED_BY_HAND,
        "live_photo_video_id": asset.live_photo_video_id,
    }
