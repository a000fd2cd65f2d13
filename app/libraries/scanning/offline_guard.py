"""Decides whether missing files were deleted or their file system is unmounted. Pure: no I/O.

The result is the reason why missing files must not be moved to the trash, or None. An operator overrides it with `scan --accept-missing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MIN_MASS_LOSS_FILES = 20
"""Fewer missing files never count as a mass loss: people delete some at any time."""


@dataclass(frozen=True, slots=True)
class LibraryAvailability:
    """Availability of a library's folders, without a look at its files. `root_errors`: for each import path that cannot be used, why.
    `lost_mounts`: mount points of the last full scan that are no longer mount points, and below which files are known."""

    root_errors: tuple[str, ...] = ()
    lost_mounts: tuple[str, ...] = ()

    @property
    def offline_reason(self) -> str | None:
        """Why the library counts as unmounted; None if it does not."""
        if self.root_errors:
            return _summarize(self.root_errors)
        if self.lost_mounts:
            return f"{_summarize(self.lost_mounts)}: was a mount point at the last complete scan and is none now"
        return None


def mass_loss_reason(lost: int, known: int) -> str | None:
    """Why the loss of `lost` of `known` files looks like an unmounted disk; None if it does not."""
    if lost >= MIN_MASS_LOSS_FILES and 2 * lost > known:
        return f"{lost} of {known} known files are missing, more than half"
    return None


def _summarize(places: Sequence[str]) -> str:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{places[0]}{more}"
