"""`TransferLimits`: how many uploads, downloads and archives run at once. Limits of this process, as those of connections are."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from app.concurrency_limit import ConcurrencyLimit
from app.config import Settings
from app.delivery.fair_turns import FairTurns
from app.delivery.response import TakeTurn


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """`uploads`: requests with bytes of a file, by user. `downloads`: answers of more than one chunk, by user; so a page of thumbnails counts
    little or nothing. `archives`: the same of zips, by user, and by link of those that are fetched over a download link."""

    uploads: ConcurrencyLimit
    downloads: ConcurrencyLimit
    archives: ConcurrencyLimit
    turns: FairTurns

    def hold_download(self, account: Hashable) -> HeldTransfer:
        """Counts the block as a download of `account`; gives what its chunks wait for. Raises `LimitReached` on entry."""
        return HeldTransfer(self.downloads, self.turns, account)

    def hold_archive(self, account: Hashable) -> HeldTransfer:
        """As `hold_download`, for an archive."""
        return HeldTransfer(self.archives, self.turns, account)


class HeldTransfer(AbstractContextManager[TakeTurn]):
    """A class, because generators would take a kilobyte for each slow client."""

    __slots__ = ("_account", "_limit", "_turns")

    def __init__(self, limit: ConcurrencyLimit, turns: FairTurns, account: Hashable) -> None:
        self._limit = limit
        self._turns = turns
        self._account = account

    def __enter__(self) -> TakeTurn:
        self._limit.acquire(self._account)
        return self._turns.join(self._account)

    def __exit__(self, *_: object) -> None:
        self._turns.leave(self._account)
        self._limit.release(self._account)


def create_transfer_limits(settings: Settings) -> TransferLimits:
    return TransferLimits(
        uploads=ConcurrencyLimit(
            "uploads",
            limit=(settings.uploads, "MEDIAVAULT_UPLOADS"),
            account_limit=(settings.uploads_per_user, "MEDIAVAULT_UPLOADS_PER_USER"),
        ),
        downloads=ConcurrencyLimit(
            "downloads", account_limit=(settings.downloads_per_user, "MEDIAVAULT_DOWNLOADS_PER_USER")
        ),
        archives=ConcurrencyLimit(
            "archives", account_limit=(settings.archives_per_user, "MEDIAVAULT_ARCHIVES_PER_USER")
        ),
        turns=FairTurns(),
    )
