"""`TransferLimits`: how many uploads, downloads and archives run at once. Limits of this process, as those of connections are."""

from __future__ import annotations

from dataclasses import dataclass

from app.concurrency_limit import ConcurrencyLimit
from app.config import Settings


@dataclass(frozen=True, slots=True)
class TransferLimits:
    """`uploads`: requests with bytes of a file, by user. `downloads`: answers of more than one chunk, by user; so a page of thumbnails counts
    little or nothing. `archives`: the same of zips, by user, and by link of those that are fetched over a download link."""

    uploads: ConcurrencyLimit
    downloads: ConcurrencyLimit
    archives: ConcurrencyLimit


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
    )
