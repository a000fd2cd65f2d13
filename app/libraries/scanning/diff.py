"""Compares the files of a folder as listed with those that the catalogue knows. Pure: no I/O."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from types import MappingProxyType
from uuid import UUID

from app.catalog.schema.library_records import KnownFile, ListedFile, ListedSidecar

_DIGEST_BYTES = 20
_NO_SIDECARS: Mapping[str, ListedSidecar] = MappingProxyType({})
_get_stat_fields = itemgetter(1, 2, 3, 4)


def digest_files(files: list[ListedFile], sidecars: Mapping[str, ListedSidecar] = _NO_SIDECARS) -> bytes:
    """A hash of names, devices, inodes, sizes and times of a folder's files, and of their sidecars (by the files' names): equal digests mean that
    nothing changed. Sorts the list in place."""
    files.sort()
    names = "\0".join([file[0] for file in files]).encode()
    hashed = hashlib.blake2b(names, digest_size=_DIGEST_BYTES)
    hashed.update(array("q", chain.from_iterable(map(_get_stat_fields, files))).tobytes())
    for name in sorted(sidecars):
        hashed.update("\0".join((name, *map(str, sidecars[name]), "")).encode())
    return hashed.digest()


@dataclass(slots=True)
class FolderDiff:
    """Differences of one folder. `returned`: files that were missing before; they may also be in `changed` or `refreshed`. `replaced`: another
    file (by inode) has the name of a known one; `find_renamed` decides which file it is. `gone`: known files, not missing before, that were not
    listed. `refreshed`: the device number differs, size and time do not. `sidecars`: files whose sidecar has come, changed or gone (None)."""

    new: list[ListedFile] = field(default_factory=list)
    changed: list[tuple[UUID, ListedFile]] = field(default_factory=list)
    refreshed: list[tuple[UUID, ListedFile]] = field(default_factory=list)
    replaced: list[tuple[KnownFile, ListedFile]] = field(default_factory=list)
    returned: list[UUID] = field(default_factory=list)
    gone: list[UUID] = field(default_factory=list)
    sidecars: list[tuple[UUID, ListedSidecar | None]] = field(default_factory=list)


def diff_folder(
    listed: Sequence[ListedFile],
    known: Iterable[KnownFile],
    sidecars: Mapping[str, ListedSidecar] = _NO_SIDECARS,
    *,
    is_complete: bool = True,
) -> FolderDiff:
    """All arguments are of one folder. A file is changed if its size or time differs. Another device number alone does not count: devices are
    renumbered when a disk is mounted again. `sidecars` by the names of their files; that one is gone is believed only of a complete listing."""
    diff = FolderDiff()
    unmatched = {file.name: file for file in known}
    for file in listed:
        known_file = unmatched.pop(file[0], None)
        if known_file is None:
            diff.new.append(file)
            continue
        if _is_replaced(known_file, file):
            diff.replaced.append((known_file, file))
            continue
        sidecar = sidecars.get(file[0])
        if sidecar != known_file.sidecar and (sidecar is not None or is_complete):
            diff.sidecars.append((known_file.asset_id, sidecar))
        if known_file.missing:
            diff.returned.append(known_file.asset_id)
        if not has_same_content(known_file, file):
            diff.changed.append((known_file.asset_id, file))
        elif known_file.device != file[1]:
            diff.refreshed.append((known_file.asset_id, file))
    diff.gone = [file.asset_id for file in unmatched.values() if not file.missing]
    return diff


def has_same_content(known: KnownFile, listed: ListedFile) -> bool:
    """Whether size and modification time are equal; the bytes are not read."""
    return (known.size, known.mtime_ns) == listed[3:]


def find_renamed(listed: Sequence[ListedFile], gone: Iterable[KnownFile]) -> dict[int, KnownFile]:
    """The listed files that are known ones under another name, by index in `listed`. `gone` are known files that are no longer at their path.
    Each of them is matched once, so that a second hard link is a new file."""
    known: dict[tuple[int, int, int, int], list[KnownFile]] = {}
    for file in gone:
        known.setdefault(identify_file(file), []).append(file)
    renamed: dict[int, KnownFile] = {}
    for index, file in enumerate(listed):
        same = known.get(_get_stat_fields(file))
        if same:
            known_file = max(same, key=lambda each: (not each.missing, each.name == file[0]))
            same.remove(known_file)
            renamed[index] = known_file
    return renamed


def identify_file(file: KnownFile) -> tuple[int, int, int, int]:
    """What identifies a file apart from its name: device, inode, size in bytes, modification time in nanoseconds."""
    return file.device, file.inode, file.size, file.mtime_ns


def _is_replaced(known: KnownFile, listed: ListedFile) -> bool:
    """Whether the name belongs to another file now. The device number alone is no evidence: it changes when a disk is mounted again."""
    return known.inode != listed[2] or (known.device != listed[1] and not has_same_content(known, listed))
