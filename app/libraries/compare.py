"""What became of a folder's files since the last scan. Pure: what was found and what was known in, decisions out."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from uuid import UUID

from app.catalog.library_records import Found, KnownFile

_DIGEST_BYTES = 20
_numbers = itemgetter(1, 2, 3, 4)


def digest(files: list[Found]) -> bytes:
    """Stands for all of a folder's files, whatever their order: equal means that nothing changed. Sorts the list."""
    files.sort()
    names = "\0".join([found[0] for found in files]).encode()
    hashed = hashlib.blake2b(names, digest_size=_DIGEST_BYTES)
    hashed.update(array("q", chain.from_iterable(map(_numbers, files))).tobytes())
    return hashed.digest()


@dataclass(slots=True)
class Compared:
    """`back` may also be among `changed` or `refreshed`. `gone` are files that were known to be there, and were not found."""

    new: list[Found] = field(default_factory=list)
    changed: list[tuple[UUID, Found]] = field(default_factory=list)
    refreshed: list[tuple[UUID, Found]] = field(default_factory=list)
    back: list[UUID] = field(default_factory=list)
    gone: list[UUID] = field(default_factory=list)


def compare(found: Sequence[Found], known: Iterable[KnownFile]) -> Compared:
    """Both of one folder. A file is changed when its size or time differs; another device or inode alone (a disk mounted anew, a
    restored backup) is the same file."""
    compared = Compared()
    left = {file.name: file for file in known}
    for file in found:
        former = left.pop(file[0], None)
        if former is None:
            compared.new.append(file)
            continue
        if former.missing:
            compared.back.append(former.asset_id)
        if (former.size, former.mtime_ns) != file[3:]:
            compared.changed.append((former.asset_id, file))
        elif (former.device, former.inode) != file[1:3]:
            compared.refreshed.append((former.asset_id, file))
    compared.gone = [file.asset_id for file in left.values() if not file.missing]
    return compared


def find_renamed(
    new: Sequence[tuple[str, Found]], candidates: Iterable[tuple[KnownFile, str]], still_there: Mapping[str, bool]
) -> dict[int, KnownFile]:
    """Which of the new files (with their folders) are known ones under another name: device, inode, size and time are the same, and
    the old path is no longer there. By the place in `new`; each known file is found once, so that a second hard link is a new file."""
    gone = {
        (file.device, file.inode, file.size, file.mtime_ns): file
        for file, path in candidates
        if not still_there.get(path, True)
    }
    renamed: dict[int, KnownFile] = {}
    for place, (_, found) in enumerate(new):
        former = gone.pop(_numbers(found), None)
        if former is not None:
            renamed[place] = former
    return renamed
