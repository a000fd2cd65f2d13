"""Routes of background tasks in the format of Immich's job queues: counts, failures, and processing again. For administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.api.models.jobs import QUEUES, CommandRequest, QueueCommand, QueueName, QueueResponse
from app.api.routes.json_routes import AuthenticatedJsonRoute
from app.api.services import Services, get_services
from app.catalog.schema.records import TaskKind

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=AuthenticatedJsonRoute)

MAX_LISTED_FAILURES = 200

ServicesDependency = Annotated[Services, Depends(get_services)]


@router.get("")
async def get_queues(
    caller: Annotated[Identity, Depends(require_permission(Permission.JOB_READ))], services: ServicesDependency
) -> dict[QueueName, QueueResponse]:
    """Immich's queues. What is made of photos counts in `thumbnailGeneration`, of videos in `videoConversion`; the latest failures
    are there with their reasons."""
    _require_administrator(caller)
    return await _list_queues(services)


@router.put("/{name}")
async def command_queue(
    name: QueueName,
    body: CommandRequest,
    caller: Annotated[Identity, Depends(require_permission(Permission.JOB_CREATE))],
    services: ServicesDependency,
) -> QueueResponse:
    """Have assets processed again: what is missing or failed, or with `force` everything. `metadataExtraction` means photos and
    videos. What is being worked on is left alone."""
    _require_administrator(caller)
    kinds = list(TaskKind) if name is QueueName.METADATA_EXTRACTION else [QUEUES[name]] if name in QUEUES else []
    if body.command is not QueueCommand.START or not kinds:
        raise ApiError(400, f"{body.command} of {name} is not supported here")
    async for _ in services.jobs.request_all(kinds, remake=body.force):
        pass
    return (await _list_queues(services))[name]


async def _list_queues(services: Services) -> dict[QueueName, QueueResponse]:
    counts = await services.catalog.tasks.count_by_kind()
    failed = await services.catalog.tasks.get_failures(MAX_LISTED_FAILURES)
    responses = {
        name: QueueResponse.from_counts(counts[kind], [task for task in failed if task.kind is kind])
        for name, kind in QUEUES.items()
    }
    return {name: responses.get(name) or QueueResponse.empty() for name in QueueName}


def _require_administrator(caller: Identity) -> None:
    if not caller.user.is_admin:
        raise ApiError(403, "Forbidden: for administrators only")
