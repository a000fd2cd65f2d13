"""Opens the catalogue: connects to the database, upgrades its tables, and holds one repository per subject. It runs no
queries itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.catalog.accounts.api_keys_and_sessions import ApiKeyRepository, SessionRepository
from app.catalog.accounts.immich_sessions import ImmichSessionRepository
from app.catalog.accounts.persons import PersonRepository
from app.catalog.accounts.sign_in_tokens import SignInTokenRepository
from app.catalog.accounts.user_removal import UserRemovalRepository
from app.catalog.accounts.users import UserRepository
from app.catalog.assets.assets import AssetRepository
from app.catalog.assets.bulk_updates import BulkUpdateRepository
from app.catalog.assets.content_types import ContentTypeRepository
from app.catalog.assets.derivatives import DerivativeRepository
from app.catalog.assets.duplicate_uploads import DuplicateUploadRepository
from app.catalog.assets.exif_indexes import ExifIndexRepository
from app.catalog.assets.folded_name_backfill import FoldedNameBackfill
from app.catalog.assets.motion_photo_videos import MotionVideoRepository
from app.catalog.assets.name_index import NameIndexRepository
from app.catalog.assets.rendition_lookup import RenditionRepository
from app.catalog.backup.dump import CatalogRestore, CatalogSnapshot, open_restore, open_snapshot
from app.catalog.browsing.client_metadata import ClientMetadataRepository
from app.catalog.browsing.exports import ExportRepository
from app.catalog.browsing.folders import FolderRepository
from app.catalog.browsing.searches import SearchRepository
from app.catalog.browsing.timeline import TimelineRepository
from app.catalog.counts.counts import CountRepository
from app.catalog.counts.kept_counts import KeptCountRepository
from app.catalog.database.engine import MAX_WAITING, Database, now
from app.catalog.database.locations import parse_url
from app.catalog.database.process_locks import ProcessLock, try_exclusive, try_lock
from app.catalog.database.schema_upgrade import ensure_current
from app.catalog.downloads.archive_links import ArchiveLinkRepository
from app.catalog.downloads.download_parts import DownloadPartRepository
from app.catalog.files import FileRepository
from app.catalog.foreign_files import ForeignFileRepository
from app.catalog.imports.import_sources import ImportSourceRepository
from app.catalog.imports.imported_accounts import ImportedAccountRepository
from app.catalog.imports.imported_assets import ImportedAssetRepository
from app.catalog.imports.imported_libraries import ImportedLibraryRepository
from app.catalog.imports.vanished_assets import VanishedAssetRepository
from app.catalog.installation import InstallationFlags
from app.catalog.libraries.libraries import LibraryRepository
from app.catalog.libraries.library_files import LibraryFileRepository
from app.catalog.libraries.library_sidecars import LibrarySidecarRepository
from app.catalog.metric_queries import MetricQueries
from app.catalog.moves.kept_copies import KeptCopyRepository
from app.catalog.moves.move_ledger import MoveLedger
from app.catalog.moves.path_switches import PathSwitches
from app.catalog.task_queues import TaskQueueRepository
from app.catalog.tasks import TaskRepository
from app.catalog.uploads.uploads import UploadRepository
from app.catalog.verify_results import VerifyResultRepository

_WRITE_PROBE = "write-probe"


class Catalog:
    """One repository per subject. All their methods raise `CatalogError`s only. They may be cancelled: a transaction is
    carried out whole or not at all."""

    def __init__(self, database: Database) -> None:
        self.database = database
        """For packages that keep their own tables in the same database."""
        self.outages = database.outages
        self.users = UserRepository(database)
        self.user_removal = UserRemovalRepository(database)
        self.api_keys = ApiKeyRepository(database)
        self.sessions = SessionRepository(database)
        self.immich_sessions = ImmichSessionRepository(database)
        self.sign_in_tokens = SignInTokenRepository(database)
        self.files = FileRepository(database)
        self.foreign_files = ForeignFileRepository(database)
        self.assets = AssetRepository(database)
        self.bulk_updates = BulkUpdateRepository(database)
        self.client_metadata = ClientMetadataRepository(database)
        self.counts = CountRepository(database)
        self.kept_counts = KeptCountRepository(database)
        self.searches = SearchRepository(database)
        self.timeline = TimelineRepository(database)
        self.folders = FolderRepository(database)
        self.folded_names = FoldedNameBackfill(database)
        self.exif_indexes = ExifIndexRepository(database)
        self.name_index = NameIndexRepository(database)
        self.derivatives = DerivativeRepository(database)
        self.content_types = ContentTypeRepository(database)
        self.duplicate_uploads = DuplicateUploadRepository(database)
        self.motion_photo_videos = MotionVideoRepository(database)
        self.exports = ExportRepository(database)
        self.persons = PersonRepository(database)
        self.tasks = TaskRepository(database)
        self.task_queues = TaskQueueRepository(database)
        self.renditions = RenditionRepository(database)
        self.archive_links = ArchiveLinkRepository(database)
        self.download_parts = DownloadPartRepository(database)
        self.libraries = LibraryRepository(database)
        self.library_files = LibraryFileRepository(database)
        self.library_sidecars = LibrarySidecarRepository(database)
        self.uploads = UploadRepository(database)
        self.installation = InstallationFlags(database)
        self.moves = MoveLedger(database)
        self.path_switches = PathSwitches(database)
        self.kept_copies = KeptCopyRepository(database)
        self.verify_results = VerifyResultRepository(database)
        self.metrics = MetricQueries(database)
        self.import_sources = ImportSourceRepository(database)
        self.imported_accounts = ImportedAccountRepository(database)
        self.imported_libraries = ImportedLibraryRepository(database)
        self.imported_assets = ImportedAssetRepository(database)
        self.vanished_assets = VanishedAssetRepository(database)

    @property
    def engine(self) -> AsyncEngine:
        """The engine that writes, for tests and tools."""
        return self.database.writer

    async def ping(self) -> None:
        """Raises `CatalogUnavailable` when the database does not answer. The caller sets the time limit."""
        async with self.database.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def check_writable(self, recent_seconds: float) -> None:
        """Raises a `CatalogError` when the database cannot be written. A write that succeeded in the last
        `recent_seconds` seconds is proof enough; otherwise one row is changed."""
        await self.database.check_file()
        if time.monotonic() - self.database.last_write_at > recent_seconds:
            await self.installation.set_flag(_WRITE_PROBE, now().isoformat())

    def open_snapshot(self) -> AbstractAsyncContextManager[CatalogSnapshot]:
        """A view of the whole catalogue at one moment. Raises `SchemaMismatch` when the tables are no longer those of
        this program."""
        return open_snapshot(self.database)

    def try_lock(self, name: str) -> AbstractAsyncContextManager[ProcessLock | None]:
        """See `app.catalog.database.process_locks.try_lock`."""
        return try_lock(self.database, name)

    def try_exclusive(self, name: str) -> AbstractAsyncContextManager[bool]:
        """See `app.catalog.database.process_locks.try_exclusive`."""
        return try_exclusive(self.database, name)

    async def aclose(self) -> None:
        await self.database.aclose()


async def open_catalog(db_url: str, *, upgrade: bool = True, max_waiting: int = MAX_WAITING) -> Catalog:
    """`max_waiting`: see `Database`. Raises `InvalidDatabaseUrl`, `CatalogUnavailable`, or `SchemaMismatch` when the tables are not current and
    `upgrade` is False."""
    database = Database(parse_url(db_url), max_waiting)
    try:
        await ensure_current(database, upgrade=upgrade)
    except BaseException:
        await database.aclose()
        raise
    return Catalog(database)


async def upgrade_catalog(db_url: str) -> bool:
    """Upgrade the tables to the newest revision. Returns False when they were current already. Raises as
    `open_catalog`."""
    database = Database(parse_url(db_url))
    try:
        return await ensure_current(database, upgrade=True)
    finally:
        await database.aclose()


@asynccontextmanager
async def restore_into(db_url: str, revision: str) -> AsyncIterator[CatalogRestore]:
    """See `app.catalog.backup.dump.open_restore`. The database may be without tables. Also raises `InvalidDatabaseUrl`."""
    database = Database(parse_url(db_url))
    try:
        async with open_restore(database, revision) as restore:
            yield restore
    finally:
        await database.aclose()
