"""What is being made of the assets, and what failed; for administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.auth import Identity, requires
from app.api.errors import ApiError
from app.api.models.jobs import QUEUES, CommandRequest, QueueCommand, QueueName, QueueResponse
from app.api.permissions import Permission
from app.api.routes.bodies import KeyedJsonRoute
from app.api.services import Services, services
from app.catalog.records import TaskKind

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=KeyedJsonRoute)

FAILURES_SHOWN = 200

Rooms = Annotated[Services, Depends(services)]


@router.get("")
async def get_queues(
    caller: Annotated[Identity, Depends(requires(Permission.JOB_READ))], rooms: Rooms
) -> dict[QueueName, QueueResponse]:
    """Immich's queues. What is made of photos counts in `thumbnailGeneration`, of videos in `videoConversion`; the latest failures
    are there with their reasons."""
    _require_administrator(caller)
    return await _queues(rooms)


@router.put("/{name}")
async def command_queue(
    name: QueueName,
    wanted: CommandRequest,
    caller: Annotated[Identity, Depends(requires(Permission.JOB_CREATE))],
    rooms: Rooms,
) -> QueueResponse:
    """Have assets processed again: what is missing or failed, or with `force` everything. `metadataExtraction` means photos and
    videos. What is being worked on is left alone."""
    _require_administrator(caller)
    kinds = list(TaskKind) if name is QueueName.METADATA_EXTRACTION else [QUEUES[name]] if name in QUEUES else []
    if wanted.command is not QueueCommand.START or not kinds:
        raise ApiError(400, f"{wanted.command} of {name} is not supported here")
    async for _ in rooms.jobs.request(kinds, remake=wanted.force):
        pass
    return (await _queues(rooms))[name]


async def _queues(rooms: Services) -> dict[QueueName, QueueResponse]:
    counts = await rooms.catalog.tasks.counts()
    failed = await rooms.catalog.tasks.failures(FAILURES_SHOWN)
    used = {
        name: QueueResponse.of(counts[kind], [task for task in failed if task.kind is kind])
        for name, kind in QUEUES.items()
    }
    return {name: used.get(name) or QueueResponse.empty() for name in QueueName}


def _require_administrator(caller: Identity) -> None:
    if not caller.user.is_admin:
        raise ApiError(403, "Forbidden: for administrators only")
