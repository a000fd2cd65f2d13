"""Tells a disk that is away from photos that were deleted. Pure: what was seen in, a verdict out.

The verdict is the reason why nothing may be moved to the trash, or None. A person overrides it with `scan --accept-missing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FEWEST_LOST = 20
"""Fewer files may go at any time: an album is tidied up."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a library's folders, without its files. `roots` says of each import path that can not be used why; `mounts` are
    mount points of the last complete scan that are none now, and below which files are known."""

    roots: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()

    @property
    def reason(self) -> str | None:
        """Why the library counts as unmounted; None when all is there."""
        if self.roots:
            return _listed(self.roots)
        if self.mounts:
            return f"{_listed(self.mounts)}: was a mount point at the last complete scan and is none now"
        return None


def losses(lost: int, known: int) -> str | None:
    """`lost` of `known` files are not to be found any more: is that a disk that is away?"""
    if lost >= FEWEST_LOST and 2 * lost > known:
        return f"{lost} of {known} known files are missing, more than half"
    return None


def _listed(places: Sequence[str]) -> str:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{places[0]}{more}"
