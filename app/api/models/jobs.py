"""Models of background tasks, in the formats of Immich's job queues: that of version 3, and the older one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Self
from uuid import UUID

from pydantic import ConfigDict, Field

from app.api.models.base_model import ApiModel, RequestModel, Selection, Timestamp, is_absent
from app.catalog.schema.records import Task, TaskCounts, TaskKind, TaskState


class QueueName(StrEnum):
    """Immich's. Those of what is not here are always empty."""

    THUMBNAIL_GENERATION = "thumbnailGeneration"
    METADATA_EXTRACTION = "metadataExtraction"
    VIDEO_CONVERSION = "videoConversion"
    FACE_DETECTION = "faceDetection"
    FACIAL_RECOGNITION = "facialRecognition"
    SMART_SEARCH = "smartSearch"
    DUPLICATE_DETECTION = "duplicateDetection"
    BACKGROUND_TASK = "backgroundTask"
    STORAGE_TEMPLATE_MIGRATION = "storageTemplateMigration"
    MIGRATION = "migration"
    SEARCH = "search"
    SIDECAR = "sidecar"
    LIBRARY = "library"
    NOTIFICATIONS = "notifications"
    BACKUP_DATABASE = "backupDatabase"
    OCR = "ocr"
    WORKFLOW = "workflow"
    INTEGRITY_CHECK = "integrityCheck"
    EDITOR = "editor"


QUEUES = {QueueName.THUMBNAIL_GENERATION: TaskKind.IMAGE, QueueName.VIDEO_CONVERSION: TaskKind.VIDEO}
"""The queues in use. All derivatives of a photo are made in one task, and all derivatives of a video in one task."""


class QueueCommand(StrEnum):
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    EMPTY = "empty"
    CLEAR_FAILED = "clear-failed"


class CommandRequest(Selection):
    model_config = ConfigDict(json_schema_extra={"examples": [{"command": "start", "force": False}]})

    command: QueueCommand
    force: bool = Field(
        default=False, description="Of `start`: make everything again, not only what is missing or failed."
    )


class QueueCounts(ApiModel):
    active: int = 0
    completed: int = 0
    failed: int = 0
    delayed: int = Field(default=0, description="To be tried again later.")
    waiting: int = 0
    paused: int = Field(default=0, description="Waiting while the queue is paused.")

    @classmethod
    def from_counts(cls, counts: TaskCounts, *, is_paused: bool) -> Self:
        waiting = counts.pending - counts.delayed
        return cls(
            active=counts.running,
            completed=counts.done,
            failed=counts.failed,
            delayed=counts.delayed,
            waiting=0 if is_paused else waiting,
            paused=waiting if is_paused else 0,
        )


class QueueStatus(ApiModel):
    is_active: bool = False
    is_paused: bool = False


class Failure(ApiModel):
    """One asset that was given up."""

    asset_id: UUID
    file_name: str
    reason: str
    attempts: int
    failed_at: Timestamp

    @classmethod
    def from_task(cls, task: Task, file_name: str) -> Self:
        return cls(
            asset_id=task.asset_id,
            file_name=file_name,
            reason=task.error or "unknown",
            attempts=task.attempts,
            failed_at=task.updated_at,
        )


class QueueDetails(ApiModel):
    """Of Immich before version 3. `failures`, which Immich has not: the latest of them, with their reasons."""

    job_counts: QueueCounts
    queue_status: QueueStatus
    failures: list[Failure] | None = Field(default=None, exclude_if=is_absent)

    @classmethod
    def from_counts(
        cls, counts: TaskCounts, failed: Iterable[Task], names: Mapping[UUID, str], *, is_paused: bool
    ) -> Self:
        """`names` by asset id; an asset that is missing there was deleted meanwhile."""
        return cls(
            job_counts=QueueCounts.from_counts(counts, is_paused=is_paused),
            queue_status=QueueStatus(is_active=counts.running > 0, is_paused=is_paused),
            failures=[Failure.from_task(task, names[task.asset_id]) for task in failed if task.asset_id in names],
        )

    @classmethod
    def empty(cls) -> Self:
        return cls(job_counts=QueueCounts(), queue_status=QueueStatus())


class QueueResponse(ApiModel):
    name: QueueName
    is_paused: bool = False
    statistics: QueueCounts = QueueCounts()


class QueueUpdate(RequestModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"isPaused": True}]})

    is_paused: bool | None = None


class QueueDelete(Selection):
    """What waits is taken out of the queue; with `failed` also what has failed."""

    failed: bool = False


class JobStatus(StrEnum):
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    DELAYED = "delayed"
    WAITING = "waiting"
    PAUSED = "paused"


JOB_STATES = {
    JobStatus.ACTIVE: TaskState.RUNNING,
    JobStatus.COMPLETED: TaskState.DONE,
    JobStatus.FAILED: TaskState.FAILED,
    JobStatus.DELAYED: TaskState.PENDING,
    JobStatus.WAITING: TaskState.PENDING,
    JobStatus.PAUSED: TaskState.PENDING,
}
_JOB_NAMES = {TaskKind.IMAGE: "AssetGenerateThumbnails", TaskKind.VIDEO: "AssetEncodeVideo"}


class JobData(ApiModel):
    id: UUID = Field(description="The asset.")


class JobResponse(ApiModel):
    """`timestamp`: milliseconds since 1970."""

    id: str
    name: str
    timestamp: int
    data: JobData

    @classmethod
    def from_task(cls, task: Task) -> Self:
        return cls(
            id=str(task.id),
            name=_JOB_NAMES[task.kind],
            timestamp=int(task.created_at.timestamp() * 1000),
            data=JobData(id=task.asset_id),
        )
