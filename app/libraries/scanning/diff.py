"""What became of a folder's files since the last scan. Pure: what was found and what was known in, decisions out."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from uuid import UUID

from app.catalog.schema.library_records import KnownFile, ListedFile

_DIGEST_BYTES = 20
_get_stat_fields = itemgetter(1, 2, 3, 4)


def digest_files(files: list[ListedFile]) -> bytes:
    """Stands for all of a folder's files, whatever their order: equal means that nothing changed. Sorts the list."""
    files.sort()
    names = "\0".join([found[0] for found in files]).encode()
    hashed = hashlib.blake2b(names, digest_size=_DIGEST_BYTES)
    hashed.update(array("q", chain.from_iterable(map(_get_stat_fields, files))).tobytes())
    return hashed.digest()


@dataclass(slots=True)
class FolderDiff:
    """`returned` may also be among `changed` or `refreshed`. `replaced`: another file has the name of a known one, for `find_renamed` to say which.
    `gone` are files that were known to be there, and were not found."""

    new: list[ListedFile] = field(default_factory=list)
    changed: list[tuple[UUID, ListedFile]] = field(default_factory=list)
    refreshed: list[tuple[UUID, ListedFile]] = field(default_factory=list)
    replaced: list[tuple[KnownFile, ListedFile]] = field(default_factory=list)
    returned: list[UUID] = field(default_factory=list)
    gone: list[UUID] = field(default_factory=list)


def diff_folder(listed: Sequence[ListedFile], known: Iterable[KnownFile]) -> FolderDiff:
    """Both of one folder. A file is changed when its size or time differs; another device alone (a disk mounted anew) is the same file."""
    compared = FolderDiff()
    left = {file.name: file for file in known}
    for file in listed:
        former = left.pop(file[0], None)
        if former is None:
            compared.new.append(file)
            continue
        if _is_replaced(former, file):
            compared.replaced.append((former, file))
            continue
        if former.missing:
            compared.returned.append(former.asset_id)
        if not has_same_content(former, file):
            compared.changed.append((former.asset_id, file))
        elif former.device != file[1]:
            compared.refreshed.append((former.asset_id, file))
    compared.gone = [file.asset_id for file in left.values() if not file.missing]
    return compared


def has_same_content(known: KnownFile, listed: ListedFile) -> bool:
    """Size and modification time are the same."""
    return (known.size, known.mtime_ns) == listed[3:]


def find_renamed(listed: Sequence[ListedFile], gone: Iterable[KnownFile]) -> dict[int, KnownFile]:
    """Which of the found files are known ones under another name, by the place in `listed`. `gone` are known files that are no longer where they
    were; each is found once, so that a second hard link is a new file."""
    known: dict[tuple[int, int, int, int], list[KnownFile]] = {}
    for file in gone:
        known.setdefault(identify_file(file), []).append(file)
    renamed: dict[int, KnownFile] = {}
    for place, file in enumerate(listed):
        same = known.get(_get_stat_fields(file))
        if same:
            former = max(same, key=lambda each: (not each.missing, each.name == file[0]))
            same.remove(former)
            renamed[place] = former
    return renamed


def identify_file(file: KnownFile) -> tuple[int, int, int, int]:
    """By which a file is known whatever its name: device, inode, size and modification time."""
    return file.device, file.inode, file.size, file.mtime_ns


def _is_replaced(known: KnownFile, listed: ListedFile) -> bool:
    """Devices are numbered anew when a disk is mounted, so that the device alone tells nothing."""
    return known.inode != listed[2] or (known.device != listed[1] and not has_same_content(known, listed))
