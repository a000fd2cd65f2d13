"""`SharedSegments`: memory that the processes of one host share, with a segment for the metrics of each process.

The memory is mapped before the processes are forked, has no name, and ends with the last process. A process writes only its own segment; any
process reads all of them. A segment outlives its process: the next process continues its counters, so that their sums never go back, also
after SIGKILL. Gauges count only while their process lives.

A segment has a header and entries. An entry is written completely before the header counts its bytes, so that a reader never sees half of one.
All values are aligned numbers of 8 bytes, which are written in one store.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence

SEGMENT_BYTES = 1024 * 1024
"""About 4,000 series. Pages that are never written take no memory."""

_USED, _OWNED = 0, 1
_HEADER_NUMBERS = 2
_NUMBER = 8
_LENGTHS = struct.Struct("=II")
"""The bytes of an entry's key, and the numbers of its values."""


class Segment:
    """The metrics of one process: values by key."""

    def __init__(self, memory: memoryview) -> None:
        self._bytes = memory
        self._numbers = memory.cast("d")

    @property
    def is_owned(self) -> bool:
        """A process that has not ended writes it."""
        return bool(self._numbers[_OWNED])

    def set_owned(self, is_owned: bool) -> None:
        self._numbers[_OWNED] = float(is_owned)

    def add(self, key: str, count: int) -> memoryview[float] | None:
        """The `count` values of a new entry, all zero; None where the segment is full."""
        name = key.encode("utf-8")
        start = self._start_of_free_space()
        values = start + _LENGTHS.size + _align(len(name))
        end = values + count * _NUMBER
        if end > len(self._bytes):
            return None
        _LENGTHS.pack_into(self._bytes, start, len(name), count)
        self._bytes[start + _LENGTHS.size : start + _LENGTHS.size + len(name)] = name
        self._bytes[values:end] = bytes(end - values)
        self._numbers[_USED] = float(end)
        return self._numbers[values // _NUMBER : end // _NUMBER]

    def read(self) -> Iterator[tuple[str, memoryview[float]]]:
        """Key and values of each entry. The values are not copied: they change while their process works."""
        position, end = _HEADER_NUMBERS * _NUMBER, self._start_of_free_space()
        while position < end:
            length, count = _LENGTHS.unpack_from(self._bytes, position)
            name = position + _LENGTHS.size
            position = name + _align(length)
            yield str(self._bytes[name : name + length], "utf-8"), self._numbers[position // _NUMBER :][:count]
            position += count * _NUMBER

    def _start_of_free_space(self) -> int:
        return int(self._numbers[_USED]) or _HEADER_NUMBERS * _NUMBER


class SharedSegments:
    """A fixed number of segments. Whoever starts processes acquires a segment before the fork, and releases it after the process's end."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * SEGMENT_BYTES)
        view = memoryview(self._memory)
        self._segments = [Segment(view[index * SEGMENT_BYTES : (index + 1) * SEGMENT_BYTES]) for index in range(count)]

    @property
    def segments(self) -> Sequence[Segment]:
        return self._segments

    def acquire(self) -> int | None:
        """The index of a segment without a process; None where there is none."""
        for index, segment in enumerate(self._segments):
            if not segment.is_owned:
                segment.set_owned(True)
                return index
        return None

    def release(self, index: int) -> None:
        self._segments[index].set_owned(False)


def _align(length: int) -> int:
    return -(-length // _NUMBER) * _NUMBER
