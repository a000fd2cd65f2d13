"""Tells a disk that is away from photos that were deleted. Pure: what was seen in, a verdict out.

The verdict is the reason why nothing may be moved to the trash, or None. A person overrides it with `scan --accept-missing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MIN_MASS_LOSS_FILES = 20
"""Fewer files may go at any time: an album is tidied up."""


@dataclass(frozen=True, slots=True)
class LibraryAvailability:
    """What is seen of a library's folders, without its files. `root_errors` says of each import path that can not be used why; `lost_mounts` are
    mount points of the last complete scan that are none now, and below which files are known."""

    root_errors: tuple[str, ...] = ()
    lost_mounts: tuple[str, ...] = ()

    @property
    def offline_reason(self) -> str | None:
        """Why the library counts as unmounted; None when all is there."""
        if self.root_errors:
            return _summarize(self.root_errors)
        if self.lost_mounts:
            return f"{_summarize(self.lost_mounts)}: was a mount point at the last complete scan and is none now"
        return None


def mass_loss_reason(lost: int, known: int) -> str | None:
    """`lost` of `known` files are not to be found any more: is that a disk that is away?"""
    if lost >= MIN_MASS_LOSS_FILES and 2 * lost > known:
        return f"{lost} of {known} known files are missing, more than half"
    return None


def _summarize(places: Sequence[str]) -> str:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{places[0]}{more}"
