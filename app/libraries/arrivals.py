"""What becomes of the files of a batch whose names tell nothing: those with a new name, and those with the name of another file. Pure.

A file that is known under another name keeps its asset. Whose name it took loses that: its file is found under another name,
in this batch or a later one, or it is gone. So names go round in circles and chains, and each asset stays with its file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.catalog.library_records import Changes, Found, KnownFile, Placed
from app.catalog.records import AssetType
from app.formats import Kind, supported
from app.libraries.compare import same_content
from app.storage.local.reading import moment_of


@dataclass(frozen=True, slots=True)
class Arrival:
    """`former` is the known file whose name it has; None where the name is new."""

    folder: str
    found: Found
    former: KnownFile | None = None


@dataclass(slots=True)
class Open:
    """What a batch could not settle: `folders` hold files that may be changed ones, or may have taken the name of one that went elsewhere. `displaced`
    are known files, there until now, that lost their name and were not found under another one, with the folders that they were in."""

    folders: set[str] = field(default_factory=set)
    displaced: dict[UUID, str] = field(default_factory=dict)


def settle(arrivals: Sequence[Arrival], renamed: Mapping[int, KnownFile], changes: Changes, *, all_seen: bool) -> Open:
    """Add to `changes` what becomes of each; `renamed` says which are known files, by the place in `arrivals`. `all_seen`: no known file
    will turn up elsewhere any more."""
    left = Open()
    moved = {former.asset_id for former in renamed.values()}
    for place, arrival in enumerate(arrivals):
        folder, found, former = arrival.folder, arrival.found, arrival.former
        itself = renamed.get(place)
        if itself is not None:
            changes.renamed.append((itself.asset_id, placed(folder, found)))
            if itself.missing:
                changes.back.append(itself.asset_id)
            if former is not None:
                changes.displaced.append((former.asset_id, placed(folder, found)))
                if former.asset_id not in moved and not former.missing:
                    left.displaced[former.asset_id] = folder
        elif former is None or former.asset_id in moved:
            changes.new.append(placed(folder, found))
        elif same_content(former, found):
            changes.refreshed.append((former.asset_id, found))
            _bring_back(former, changes)
        elif all_seen:
            changes.changed.append((former.asset_id, placed(folder, found)))
            _bring_back(former, changes)
        else:
            left.folders.add(folder)
    return left


def placed(folder: str, found: Found) -> Placed:
    media = supported(found[0])
    if media is None:
        raise ValueError("a file of no known type was listed")
    kind = AssetType.VIDEO if media.kind is Kind.VIDEO else AssetType.IMAGE
    return Placed(folder, found, kind, media.mime_type, moment_of(found[4]))


def _bring_back(former: KnownFile, changes: Changes) -> None:
    if former.missing:
        changes.back.append(former.asset_id)
