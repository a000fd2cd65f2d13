"""`ConsistencyRepair`: repairs findings of the consistency check, on request only.

Lost or damaged derivatives are generated again; orphans are moved to the quarantine folder; kept counts are corrected. A lost or damaged
copy of a foreign file is forgotten, and marked for deletion, once its source was read and is whole: the next `migrate run` makes another
one. Nothing else is deleted.
"""

from __future__ import annotations

from datetime import datetime

from app.catalog.catalog import Catalog
from app.catalog.schema.records import File, FileKind
from app.jobs.service import JobService
from app.migration.consistency.consistency_check import QUARANTINE_FOLDER
from app.migration.consistency.findings import ConsistencyFinding, FindingKind
from app.migration.copy_check import get_recorded_checksums
from app.migration.foreign_copies import find_foreign_problem
from app.storage.errors import ObjectNotFound
from app.storage.service import StorageService

REQUEUED = "requeued"
QUARANTINED = "quarantined"
RECOUNTED = "recounted"
FORGOTTEN = "forgotten"

_DERIVATIVES = frozenset((FileKind.THUMBNAIL, FileKind.PREVIEW, FileKind.FULLSIZE, FileKind.ENCODED_VIDEO))
_REPAIRABLE_KINDS = frozenset((FindingKind.MISSING, FindingKind.SIZE, FindingKind.CHECKSUM))


class ConsistencyRepair:
    """With `jobs` derivatives are generated again, kept counts corrected, and lost or damaged copies forgotten. With
    `quarantine_orphans` orphans are moved to `quarantine/<moment>/<key>`."""

    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        moment: datetime,
        *,
        jobs: JobService | None,
        quarantine_orphans: bool,
    ) -> None:
        self._catalog = catalog
        self._storage = storage
        self._jobs = jobs
        self._quarantine_orphans = quarantine_orphans
        self._folder = f"{QUARANTINE_FOLDER}/{moment:%Y%m%d-%H%M%S}"

    async def repair(self, finding: ConsistencyFinding) -> str | None:
        """Raises `CatalogError`, or a `StorageError` where an orphan cannot be moved."""
        file = finding.file
        if file is not None and finding.is_copy:
            is_repairable = finding.problem in _REPAIRABLE_KINDS and self._jobs is not None and file.copy_of is None
            return await self._forget_copy(file, finding.path) if is_repairable else None
        if file is not None:
            is_repairable = finding.problem in _REPAIRABLE_KINDS and file.kind in _DERIVATIVES
            return await self._requeue_derivatives(file, self._jobs) if is_repairable and self._jobs else None
        if finding.problem is FindingKind.COUNT and self._jobs:
            await self._catalog.kept_counts.correct()
            return RECOUNTED
        if self._quarantine_orphans and finding.key is not None:
            return await self._move_to_quarantine(finding.path, finding.key)
        return None

    async def _forget_copy(self, file: File, copy_path: str) -> str | None:
        """Only while the source is whole: otherwise the copy, even a damaged one, or one that the store did not find, may be all that is
        left."""
        current = await self._catalog.files.get(file.id)
        recorded = current and get_recorded_checksums(current)
        if current is None or recorded is None:
            return None
        if await find_foreign_problem(self._storage, current.path, recorded) is not None:
            return None
        return FORGOTTEN if await self._catalog.kept_copies.forget(file.id, copy_path) else None

    async def _requeue_derivatives(self, file: File, jobs: JobService) -> str | None:
        """Queue all tasks of the derivative's asset; tasks that run now are left alone."""
        asset_id = await self._catalog.derivatives.find_asset_id(file.id)
        if asset_id is None:
            return None
        return REQUEUED if await jobs.request_for(file.owner_id, [asset_id]) else None

    async def _move_to_quarantine(self, path: str, key: str) -> str | None:
        target = f"{path.removesuffix(key)}{self._folder}/{key}"
        if await self._catalog.files.find_known_paths([path]):
            return None
        try:
            await self._storage.rename(path, target)
        except ObjectNotFound:
            return None
        if await self._catalog.files.find_known_paths([path]):
            await self._storage.rename(target, path)  # it has got a row at this very moment
            return None
        return QUARANTINED
