"""What became of a folder's files since the last scan. Pure: what was found and what was known in, decisions out."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
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
    """`back` may also be among `changed` or `refreshed`. `replaced`: another file has the name of a known one, for `find_renamed` to say which.
    `gone` are files that were known to be there, and were not found."""

    new: list[Found] = field(default_factory=list)
    changed: list[tuple[UUID, Found]] = field(default_factory=list)
    refreshed: list[tuple[UUID, Found]] = field(default_factory=list)
    replaced: list[tuple[KnownFile, Found]] = field(default_factory=list)
    back: list[UUID] = field(default_factory=list)
    gone: list[UUID] = field(default_factory=list)


def compare(found: Sequence[Found], known: Iterable[KnownFile]) -> Compared:
    """Both of one folder. A file is changed when its size or time differs; another device alone (a disk mounted anew) is the same file."""
    compared = Compared()
    left = {file.name: file for file in known}
    for file in found:
        former = left.pop(file[0], None)
        if former is None:
            compared.new.append(file)
            continue
        if _is_another(former, file):
            compared.replaced.append((former, file))
            continue
        if former.missing:
            compared.back.append(former.asset_id)
        if not same_content(former, file):
            compared.changed.append((former.asset_id, file))
        elif former.device != file[1]:
            compared.refreshed.append((former.asset_id, file))
    compared.gone = [file.asset_id for file in left.values() if not file.missing]
    return compared


def same_content(known: KnownFile, found: Found) -> bool:
    """Size and modification time are the same."""
    return (known.size, known.mtime_ns) == found[3:]


def find_renamed(found: Sequence[Found], gone: Iterable[KnownFile]) -> dict[int, KnownFile]:
    """Which of the found files are known ones under another name, by the place in `found`. `gone` are known files that are no longer where they
    were; each is found once, so that a second hard link is a new file."""
    known: dict[tuple[int, int, int, int], list[KnownFile]] = {}
    for file in gone:
        known.setdefault(identity(file), []).append(file)
    renamed: dict[int, KnownFile] = {}
    for place, file in enumerate(found):
        same = known.get(_numbers(file))
        if same:
            former = max(same, key=lambda each: (not each.missing, each.name == file[0]))
            same.remove(former)
            renamed[place] = former
    return renamed


def identity(file: KnownFile) -> tuple[int, int, int, int]:
    """By which a file is known whatever its name: device, inode, size and modification time."""
    return file.device, file.inode, file.size, file.mtime_ns


def _is_another(known: KnownFile, found: Found) -> bool:
    """Devices are numbered anew when a disk is mounted, so that the device alone tells nothing."""
    return known.inode != found[2] or (known.device != found[1] and not same_content(known, found))
