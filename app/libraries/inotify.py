"""The kernel's events for folders, by inotify(7): a thin layer over the C library's functions. What they mean is up to who asks.

Other bindings follow links when they watch a tree, and keep to themselves that a watch has ended: with the disk that was unmounted, with the
folder that was removed, or by a queue that has overflowed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
from collections.abc import Iterator
from dataclasses import dataclass

MODIFY = 0x00000002
ATTRIB = 0x00000004
CLOSE_WRITE = 0x00000008
MOVED_FROM = 0x00000040
MOVED_TO = 0x00000080
CREATE = 0x00000100
DELETE = 0x00000200
DELETE_SELF = 0x00000400
MOVE_SELF = 0x00000800
UNMOUNT = 0x00002000
Q_OVERFLOW = 0x00004000
IGNORED = 0x00008000
ISDIR = 0x40000000
_ONLYDIR = 0x01000000
_DONT_FOLLOW = 0x02000000
_EXCL_UNLINK = 0x04000000
_WANTED = MODIFY | ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF

_HEAD = struct.Struct("iIII")
_BUFFER_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Event:
    """`watch` is the number that `Inotify.add` returned, -1 for the queue itself; `name` is of what is in that folder, empty for the folder."""

    watch: int
    mask: int
    name: str


class Inotify:
    """Raises `OSError` throughout: ENOSPC at the limit of watches, EMFILE at that of instances, ENOSYS on a system without inotify."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(library, "inotify_init1"):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._add, self._remove = library.inotify_add_watch, library.inotify_rm_watch
        self._descriptor = _checked(library.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def add(self, folder: str) -> int:
        """The same number for the same folder, by whatever path. A link is not followed."""
        flags = _WANTED | _ONLYDIR | _DONT_FOLLOW | _EXCL_UNLINK
        return _checked(self._add(self._descriptor, os.fsencode(folder), ctypes.c_uint32(flags)), folder)

    def remove(self, watch: int) -> None:
        """An `IGNORED` follows. Nothing where the kernel has removed it already."""
        self._remove(self._descriptor, watch)

    def wait(self, milliseconds: int) -> bool:
        """Whether there are events."""
        return bool(self._poll.poll(milliseconds))

    def read(self) -> Iterator[Event]:
        """Those that are there."""
        try:
            data = os.read(self._descriptor, _BUFFER_BYTES)
        except BlockingIOError:
            return
        place = 0
        while place < len(data):
            watch, mask, _, length = _HEAD.unpack_from(data, place)
            place += _HEAD.size
            yield Event(watch, mask, os.fsdecode(data[place : place + length].rstrip(b"\0")))
            place += length

    def close(self) -> None:
        os.close(self._descriptor)


def _checked(result: int, path: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
