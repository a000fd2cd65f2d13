"""Routes that tell administrators of the backups of the catalogue and of the latest move. Both are made by the command line or by schedule."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.authentication.authenticator import require_administrator
from app.api.authentication.permissions import Permission
from app.api.models.moves_and_backups import BackupList, BackupResponse, MoveResponse
from app.api.services import Services, get_services
from app.catalog.schema.move_records import MoveState
from app.migration.backups.backup_store import list_backups

router = APIRouter(prefix="/api/server", tags=["server"])

MAX_LISTED_PROBLEMS = 100

ServicesDependency = Annotated[Services, Depends(get_services)]


@router.get("/backups", dependencies=[Depends(require_administrator(Permission.BACKUP_LIST))])
async def get_backups(services: ServicesDependency) -> BackupList:
    """The verified backups of the catalogue on every engine, the newest first; for administrators."""
    settings = services.settings
    backups = [BackupResponse.from_backup(each) for each in await list_backups(services.storage)]
    return BackupList(backups=backups, every_hours=settings.backup_hours, keep=settings.backup_keep)


@router.get("/move", dependencies=[Depends(require_administrator(Permission.SERVER_STATISTICS))])
async def get_latest_move(services: ServicesDependency) -> MoveResponse | None:
    """The latest move between disk and S3, under way or finished; null if there was none. For administrators."""
    moves = services.catalog.moves
    migration = await moves.get_latest()
    if migration is None:
        return None
    counts = await moves.count_by_state(migration.id)
    problems = await moves.get_moves(migration.id, list(MoveState), limit=MAX_LISTED_PROBLEMS, only_with_problem=True)
    return MoveResponse.from_migration(migration, counts, problems, await moves.count_unswept(migration.id))
