"""Contents of uploads: photos of any size, of which no two are equal, and of which only a description is kept in memory."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import cached_property

from tests.real.sample_media import make_jpeg

SMALL_BYTES = (2_000, 60_000)
LARGE_BYTES = (8_500_000, 10_000_000)
"""Two parts of a multipart upload to S3."""
NUMBER_BYTES = 8


@dataclass(frozen=True)
class Content:
    """A JPEG, then a number, then a slice of random bytes, which decoders ignore."""

    head: bytes
    filling: memoryview

    @property
    def size(self) -> int:
        return len(self.head) + len(self.filling)

    @cached_property
    def sha256(self) -> bytes:
        return hashlib.sha256(self.read(0, self.size)).digest()

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`."""
        border = len(self.head)
        return self.head[start:end] + self.filling[max(0, start - border) : max(0, end - border)]


class ContentFactory:
    """Makes contents from a seed."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._label = dice.randbytes(NUMBER_BYTES)
        self._photo = make_jpeg()
        self._filling = memoryview(dice.randbytes(LARGE_BYTES[1] + SMALL_BYTES[1]))
        self._made = 0

    def make(self, *, large: bool) -> Content:
        size = self._dice.randrange(*(LARGE_BYTES if large else SMALL_BYTES))
        start = self._dice.randrange(SMALL_BYTES[1])
        self._made += 1
        return Content(
            self._photo + self._label + self._made.to_bytes(NUMBER_BYTES), self._filling[start : start + size]
        )
