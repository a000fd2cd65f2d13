"""The exceptions of the catalogue. Exceptions of SQLAlchemy and of the drivers never leave the catalogue; they are
translated to these."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

MAX_NAMED_IDS = 20
"""The text of an error names at most so many ids."""


class CatalogError(Exception):
    """Base of all exceptions of the catalogue. `retryable`: the same call may succeed later."""

    retryable = False


class CatalogUnavailable(CatalogError):
    """The database does not answer, is locked for too long, full or restarting.

    If it interrupts a commit, it is unknown whether the transaction was carried out; it was carried out whole or not at
    all.
    """

    retryable = True


class CatalogUnreachable(CatalogUnavailable):
    """There is no connection to the database: the server or the network is down, or no call has been answered for some
    time."""


class CatalogLocked(CatalogUnavailable):
    """Another process has held a lock that the call needs for too long."""


class CatalogFull(CatalogUnavailable):
    """The database's disk is full. Reads may still succeed."""


class CatalogReadOnly(CatalogUnavailable):
    """The database is read-only: its file system is mounted read-only, or the server is a standby."""


class CatalogFileMoved(CatalogUnavailable):
    """The path of the SQLite file no longer leads to the file that is open, so the next start would not see what is
    written. Reads continue; writes continue once the same file is back at its path."""


class CatalogDamaged(CatalogError):
    """The database file is not a SQLite database, or some of its pages are corrupt."""


class InvalidDatabaseUrl(CatalogError):
    """`DB_URL` names no usable database. The text is one line without credentials."""


class SchemaMismatch(CatalogError):
    """The tables are older than this program and upgrading was not requested, or they are newer."""


class CatalogNotEmpty(CatalogError):
    """A backup can only be restored into an empty catalogue; `table` has rows."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(f"the catalogue is not empty: there are rows in its table {table!r}")


class CatalogBusy(CatalogUnavailable):
    """Too many calls wait for the database already."""


class ConstraintViolation(CatalogError):
    """A unique value is taken, or a referenced row does not exist."""


class EmailTaken(ConstraintViolation):
    """Another user has this e-mail address."""

    def __init__(self, email: str) -> None:
        self.email = email
        super().__init__(f"{email} is taken")


class InvalidEmail(CatalogError):
    """The text is not an e-mail address."""

    def __init__(self, email: str) -> None:
        super().__init__(f"{email[:100]!r} is no e-mail address")


class DateOutOfRange(CatalogError):
    """A change would move a date out of the years 1 to 9999."""

    def __init__(self) -> None:
        super().__init__("the date would be outside of the calendar")


class InvalidCursor(CatalogError, ValueError):
    """The text is not a cursor that `AssetRepository.get_page` returned."""


class QuotaExceeded(CatalogError):
    """`size` more bytes than `used` would exceed `quota`; all in bytes. If it is raised during an upload, `size` is the
    number of bytes received so far."""

    def __init__(self, quota: int, used: int, size: int) -> None:
        self.quota = quota
        self.used = used
        self.size = size
        super().__init__(f"{used} bytes are used, and {size} or more in addition exceed the quota of {quota}")


class DuplicateAsset(CatalogError):
    """The owner already has this content as asset `asset_id`."""

    def __init__(self, asset_id: UUID, *, is_trashed: bool) -> None:
        self.asset_id = asset_id
        self.is_trashed = is_trashed
        super().__init__(f"duplicate of asset {asset_id}")


class WriteLeaseLost(CatalogError):
    """The file is no longer `writing`: its lease expired and the sweeper has claimed it."""

    def __init__(self, file_id: UUID) -> None:
        self.file_id = file_id
        super().__init__(f"file {file_id} is no longer being written")


class UploadSuperseded(CatalogError):
    """A newer request has taken the upload over, or it has ended."""

    def __init__(self, upload_id: UUID) -> None:
        self.upload_id = upload_id
        super().__init__(f"upload {upload_id} was taken over by a newer request")


class LibraryChanged(CatalogError):
    """The library's import paths or exclusion patterns have changed since the scan began."""

    def __init__(self, library_id: UUID) -> None:
        self.library_id = library_id
        super().__init__(f"the library {library_id} was changed while it was scanned")


class MigrationBusy(CatalogError):
    """Another process holds the lock of the migration ledger."""

    def __init__(self) -> None:
        super().__init__("another `mediavault migrate` is at work on this catalogue")


class NotAPhoto(CatalogError):
    """A motion video was given to the asset `asset_id`, which is not a photo."""

    def __init__(self, asset_id: UUID) -> None:
        self.asset_id = asset_id
        super().__init__(f"livePhotoVideoId: asset {asset_id} is no photo")


class NotFound(CatalogError):
    """Rows with these ids do not exist or belong to another owner. Nothing was changed."""

    def __init__(self, kind: str, ids: Iterable[UUID]) -> None:
        self.kind = kind
        self.ids = tuple(ids)
        more = f" and {len(self.ids) - MAX_NAMED_IDS} more" if len(self.ids) > MAX_NAMED_IDS else ""
        super().__init__(f"no {kind} {', '.join(map(str, self.ids[:MAX_NAMED_IDS]))}{more}")


class OutsideForeignRoots(CatalogError):
    """A foreign file's path lies below no root of foreign files."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} lies below no folder of foreign files")
        self.path = path
