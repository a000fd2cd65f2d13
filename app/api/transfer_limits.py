"""`TransferLimits`: how many uploads, downloads and archives run at once. Limits of this process, as those of connections are."""

from __future__ import annotations

from collections.abc import Generator, Hashable
from contextlib import contextmanager
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

    @contextmanager
    def hold_download(self, account: Hashable) -> Generator[TakeTurn]:
        """Counts the block as a download of `account`; yields what its chunks wait for. Raises `LimitReached`."""
        with self.downloads.hold(account), self.turns.taking_part(account) as take_turn:
            yield take_turn

    @contextmanager
    def hold_archive(self, account: Hashable) -> Generator[TakeTurn]:
        """As `hold_download`, for an archive."""
        with self.archives.hold(account), self.turns.taking_part(account) as take_turn:
            yield take_turn


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
