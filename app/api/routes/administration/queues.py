"""Routes of background tasks in the formats of Immich's job queues: counts, failures, processing again, pause, resume and removal. For
administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Query, Response

from app.api.authentication.authenticator import require_administrator
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.api.models.jobs import (
    JOB_STATES,
    QUEUES,
    CommandRequest,
    JobResponse,
    JobStatus,
    QueueCommand,
    QueueCounts,
    QueueDelete,
    QueueDetails,
    QueueName,
    QueueResponse,
    QueueUpdate,
)
from app.api.routes.json_routes import AuthenticatedJsonRoute
from app.api.services import Services, get_services
from app.catalog.schema.records import TaskKind, TaskState

router = APIRouter(prefix="/api", tags=["jobs"], route_class=AuthenticatedJsonRoute)

MAX_LISTED_FAILURES = 200
MAX_LISTED_JOBS = 1000

ServicesDependency = Annotated[Services, Depends(get_services)]


@router.get("/jobs", dependencies=[Depends(require_administrator(Permission.JOB_READ))])
async def get_queue_details(services: ServicesDependency) -> dict[QueueName, QueueDetails]:
    """Immich's queues, before version 3. What is made of photos counts in `thumbnailGeneration`, of videos in `videoConversion`; the
    latest failures are there with their reasons."""
    return await _list_queue_details(services)


@router.put("/jobs/{name}", dependencies=[Depends(require_administrator(Permission.JOB_CREATE))])
async def command_queue(name: QueueName, body: CommandRequest, services: ServicesDependency) -> QueueDetails:
    """`start`: have assets processed again: what is missing or failed, or with `force` everything; `metadataExtraction` means photos and
    videos. `empty` removes what waits, `clear-failed` what has failed. What is being worked on is left alone."""
    kinds = list(TaskKind) if name is QueueName.METADATA_EXTRACTION else [QUEUES[name]] if name in QUEUES else []
    if not kinds or (body.command is not QueueCommand.START and name not in QUEUES):
        raise _build_unsupported_error(body.command, name)
    match body.command:
        case QueueCommand.START:
            async for _ in services.jobs.request_all(kinds, remake=body.force):
                pass
        case QueueCommand.PAUSE:
            await services.catalog.task_queues.pause(kinds[0])
        case QueueCommand.RESUME:
            await services.jobs.resume(kinds[0])
        case QueueCommand.EMPTY:
            await services.catalog.task_queues.remove_tasks(kinds[0], [TaskState.PENDING])
        case QueueCommand.CLEAR_FAILED:
            await services.catalog.task_queues.remove_tasks(kinds[0], [TaskState.FAILED])
    return (await _list_queue_details(services))[name]


@router.get("/queues", dependencies=[Depends(require_administrator(Permission.QUEUE_READ))])
async def list_queues(services: ServicesDependency) -> list[QueueResponse]:
    """All of Immich's queues. Those other than `thumbnailGeneration` and `videoConversion` are always empty."""
    return await _list_queues(services)


@router.get("/queues/{name}", dependencies=[Depends(require_administrator(Permission.QUEUE_READ))])
async def get_queue(name: QueueName, services: ServicesDependency) -> QueueResponse:
    return await _get_queue(name, services)


@router.put("/queues/{name}", dependencies=[Depends(require_administrator(Permission.QUEUE_UPDATE))])
async def update_queue(name: QueueName, body: QueueUpdate, services: ServicesDependency) -> QueueResponse:
    """A paused queue starts nothing, in any process, until it is resumed; what is being worked on ends."""
    kind = QUEUES.get(name)
    if kind is None:
        raise _build_unsupported_error("isPaused", name)
    if body.is_paused is True:
        await services.catalog.task_queues.pause(kind)
    elif body.is_paused is False:
        await services.jobs.resume(kind)
    return await _get_queue(name, services)


@router.get("/queues/{name}/jobs", dependencies=[Depends(require_administrator(Permission.QUEUE_JOB_READ))])
async def list_queue_jobs(
    name: QueueName, services: ServicesDependency, status: Annotated[list[JobStatus] | None, Query()] = None
) -> list[JobResponse]:
    """At most 1,000 jobs of the queue, the most urgent first."""
    if name not in QUEUES:
        return []
    states = {JOB_STATES[each] for each in status or JobStatus}
    tasks = await services.catalog.task_queues.list_tasks(QUEUES[name], states, MAX_LISTED_JOBS)
    return [JobResponse.from_task(task) for task in tasks]


@router.delete(
    "/queues/{name}/jobs", status_code=204, dependencies=[Depends(require_administrator(Permission.QUEUE_JOB_DELETE))]
)
async def empty_queue(
    name: QueueName, services: ServicesDependency, body: Annotated[QueueDelete | None, Body()] = None
) -> Response:
    """What waits is removed from the queue: a `start` of the queue finds it again."""
    states = [TaskState.PENDING, *([TaskState.FAILED] if body is not None and body.failed else [])]
    if name in QUEUES:
        await services.catalog.task_queues.remove_tasks(QUEUES[name], states)
    return Response(status_code=204)


async def _get_queue(name: QueueName, services: Services) -> QueueResponse:
    return next(queue for queue in await _list_queues(services) if queue.name is name)


async def _list_queues(services: Services) -> list[QueueResponse]:
    counts = await services.catalog.tasks.count_by_kind()
    paused = await services.catalog.task_queues.list_paused()
    used = {
        name: QueueResponse(
            name=name,
            is_paused=kind in paused,
            statistics=QueueCounts.from_counts(counts[kind], is_paused=kind in paused),
        )
        for name, kind in QUEUES.items()
    }
    return [used.get(name) or QueueResponse(name=name) for name in QueueName]


async def _list_queue_details(services: Services) -> dict[QueueName, QueueDetails]:
    counts = await services.catalog.tasks.count_by_kind()
    failed = await services.catalog.tasks.get_failures(MAX_LISTED_FAILURES)
    names = await services.catalog.task_queues.get_file_names(failed)
    paused = await services.catalog.task_queues.list_paused()
    used = {
        name: QueueDetails.from_counts(
            counts[kind], [task for task in failed if task.kind is kind], names, is_paused=kind in paused
        )
        for name, kind in QUEUES.items()
    }
    return {name: used.get(name) or QueueDetails.empty() for name in QueueName}


def _build_unsupported_error(command: str, name: QueueName) -> ApiError:
    return ApiError(400, f"{command} of {name} is not supported here")
