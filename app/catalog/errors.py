"""What the catalogue can refuse or fail at, as types. Nothing above it sees an exception of SQLAlchemy or of a driver."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

MAX_NAMED_IDS = 20
"""As many ids are named in the text of an error."""


class CatalogError(Exception):
    """Base of all errors of the catalogue. `retryable`: the same call may work later."""

    retryable = False


class CatalogUnavailable(CatalogError):
    """The database does not answer, is locked for too long, full or restarting.

    Where it interrupts a commit it is not known whether the transaction took place; it did whole or not at all.
    """

    retryable = True


class CatalogUnreachable(CatalogUnavailable):
    """There is no connection to the database: it is down, the network is, or nothing has been answered at all for some time."""


class CatalogLocked(CatalogUnavailable):
    """Another process has held the lock that the call needs for too long."""


class CatalogFull(CatalogUnavailable):
    """The database's disk has no room. Reads may go on."""


class CatalogReadOnly(CatalogUnavailable):
    """The database may only be read: its file system is mounted so, or the server is a standby."""


class CatalogFileMoved(CatalogUnavailable):
    """The file that is open is no longer the one at its path, so that the next start would not see what is written. Reads go on, and
    writes too once the same file is back."""


class CatalogDamaged(CatalogError):
    """The database file is no database, or pages of it hold something else than they should."""


class InvalidDatabaseUrl(CatalogError):
    """`DB_URL` names no database that can be used; the text is one line without credentials."""


class SchemaMismatch(CatalogError):
    """The tables are older than this program (and upgrading was not asked for), or newer."""


class CatalogNotEmpty(CatalogError):
    """A backup is restored into an empty catalogue only; `table` has rows."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(f"the catalogue is not empty: there are rows in its table {table!r}")


class ConstraintViolation(CatalogError):
    """A unique value is taken, or a row that is referred to is not there."""


class EmailTaken(ConstraintViolation):
    """Another user has this address."""

    def __init__(self, email: str) -> None:
        self.email = email
        super().__init__(f"{email} is taken")


class InvalidEmail(CatalogError):
    """The text is no address that anybody could log in with."""

    def __init__(self, email: str) -> None:
        super().__init__(f"{email[:100]!r} is no e-mail address")


class InvalidCursor(CatalogError, ValueError):
    """The text is no cursor that `AssetRepository.page` gave."""


class QuotaExceeded(CatalogError):
    """`size` bytes more than `used` would exceed `quota`, all in bytes. In the middle of an upload `size` is what came so far."""

    def __init__(self, quota: int, used: int, size: int) -> None:
        self.quota = quota
        self.used = used
        self.size = size
        super().__init__(f"{used} bytes are used, and {size} or more in addition exceed the quota of {quota}")


class DuplicateAsset(CatalogError):
    """The owner has this content already, as the asset `asset_id`."""

    def __init__(self, asset_id: UUID, *, is_trashed: bool) -> None:
        self.asset_id = asset_id
        self.is_trashed = is_trashed
        super().__init__(f"duplicate of asset {asset_id}")


class WriteLeaseLost(CatalogError):
    """The file is no longer `writing`: its lease ran out and the sweeper has it."""

    def __init__(self, file_id: UUID) -> None:
        self.file_id = file_id
        super().__init__(f"file {file_id} is no longer being written")


class LibraryChanged(CatalogError):
    """The library has other import paths or exclusion patterns by now than those that a scan goes by."""

    def __init__(self, library_id: UUID) -> None:
        self.library_id = library_id
        super().__init__(f"the library {library_id} was changed while it was scanned")


class MigrationBusy(CatalogError):
    """Another process works on a migration of this catalogue."""

    def __init__(self) -> None:
        super().__init__("another `mediavault migrate` is at work on this catalogue")


class NotAPhoto(CatalogError):
    """Only photos show a motion video; the asset `asset_id` is none."""

    def __init__(self, asset_id: UUID) -> None:
        self.asset_id = asset_id
        super().__init__(f"livePhotoVideoId: asset {asset_id} is no photo")


class NotFound(CatalogError):
    """No such rows, or not of this owner. Nothing was changed."""

    def __init__(self, kind: str, ids: Iterable[UUID]) -> None:
        self.kind = kind
        self.ids = tuple(ids)
        more = f" and {len(self.ids) - MAX_NAMED_IDS} more" if len(self.ids) > MAX_NAMED_IDS else ""
        super().__init__(f"no {kind} {', '.join(map(str, self.ids[:MAX_NAMED_IDS]))}{more}")
