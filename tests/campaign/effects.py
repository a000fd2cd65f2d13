"""Finds the named steps in the code under test, from outside: its methods are wrapped, and tell a `StepObserver` when they begin and end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from app.api.http.application import AsgiRequestCycle
from app.catalog.assets.assets import AssetRepository
from app.catalog.assets.derivatives import DerivativeRepository
from app.catalog.assets.motion_photo_videos import MotionPhotoVideos
from app.catalog.files import FileRepository
from app.catalog.moves.move_ledger import MoveLedger
from app.catalog.moves.path_switches import PathSwitches
from app.catalog.tasks import TaskRepository
from app.media.processor import MediaProcessor
from app.storage.key import is_temporary
from app.storage.local.backend import LocalBackend
from app.storage.local.file_writer import PendingFile
from app.storage.s3.protocol.client import S3Client
from app.storage.staging import _StagedFile

P = ParamSpec("P")
R = TypeVar("R")
NameStep = Callable[..., str | None]

WAIT_SECONDS = 30.0


class StepObserver(Protocol):
    """`enter` says whether to call `reach`, and then to wait to be killed, before or after the step's effect."""

    def enter(self, step: str) -> tuple[bool, bool]: ...

    def leave(self, step: str) -> None: ...

    def reach(self) -> None: ...


def observe_effects(watch: StepObserver) -> None:
    """From now on, in this process."""
    for owner, name, step in _COROUTINES:
        setattr(owner, name, _watched_coroutine(getattr(owner, name), step, watch))
    for owner, name, step in _FUNCTIONS:
        setattr(owner, name, _watched_function(getattr(owner, name), step, watch))


def _always(step: str) -> NameStep:
    return lambda *_, **__: step


def _of_object(step: str) -> NameStep:
    """But for the small ones on which a process finds out what the store can do."""
    return lambda _client, key, *_, **__: None if is_temporary(key) else step


def _flushed(file: PendingFile, descriptor: int) -> str:
    return "file flushed" if descriptor == file._descriptor else "folder flushed"


def _answered(exchange: AsgiRequestCycle, message: MutableMapping[str, Any]) -> str | None:
    uploads = exchange._scope["method"] == "POST" and exchange._scope["path"] == "/api/assets"
    return "answer" if uploads and message["type"] == "http.response.start" and message["status"] == 201 else None


_COROUTINES: list[tuple[type, str, NameStep]] = [
    (FileRepository, "begin_write", _always("file row begun")),
    (AssetRepository, "insert", _always("live transaction")),
    (AsgiRequestCycle, "send", _answered),
    (AssetRepository, "trash", _always("trash")),
    (AssetRepository, "delete", _always("doom transaction")),
    (FileRepository, "claim_sweepable", _always("claim")),
    (FileRepository, "delete_swept", _always("row forgotten")),
    (TaskRepository, "_claim", _always("task claimed")),
    (MediaProcessor, "make_images", _always("pictures made")),
    (MediaProcessor, "make_poster", _always("pictures made")),
    (MediaProcessor, "make_playable", _always("playable video made")),
    (MediaProcessor, "find_motion_video", _always("motion looked for")),
    (DerivativeRepository, "swap_files", _always("derivatives swapped")),
    (MotionPhotoVideos, "link_video", _always("motion added")),
    (TaskRepository, "finish", _always("task done")),
    (LocalBackend, "delete_objects", _always("object deleted")),
    (S3Client, "delete_batch", _always("object deleted")),
    (S3Client, "delete", _of_object("object deleted")),
    (S3Client, "put", _of_object("object put")),
    (S3Client, "create_upload", _of_object("multipart upload created")),
    (S3Client, "upload_part", _of_object("part uploaded")),
    (S3Client, "complete", _of_object("multipart upload completed")),
    (MoveLedger, "begin_migration", _always("migration begun")),
    (MoveLedger, "plan_moves", _always("files planned")),
    (MoveLedger, "begin_copying", _always("copies begun")),
    (MoveLedger, "record_outcomes", _always("outcomes recorded")),
    (PathSwitches, "switch", _always("paths switched")),
    (PathSwitches, "switch_back", _always("paths switched back")),
    (PathSwitches, "cancel_moves", _always("copies given up")),
    (PathSwitches, "mark_sources_for_deletion", _always("sources doomed")),
    (MoveLedger, "finish_migration", _always("migration finished")),
    (LocalBackend, "prune_folders", _always("folders pruned")),
]
_FUNCTIONS: list[tuple[type, str, NameStep]] = [
    (PendingFile, "__init__", _always("temporary file made")),
    (PendingFile, "write", _always("bytes written")),
    (PendingFile, "_sync", _flushed),
    (PendingFile, "_rename", _always("file named")),
    (_StagedFile, "finish", _always("original staged")),
]


def _watched_coroutine(
    original: Callable[P, Awaitable[R]], name_step: NameStep, watch: StepObserver
) -> Callable[P, Awaitable[R]]:
    @wraps(original)
    async def watched(*args: P.args, **kwargs: P.kwargs) -> R:
        step = name_step(*args, **kwargs)
        if step is None:
            return await original(*args, **kwargs)
        before, after = watch.enter(step)
        try:
            if before:
                watch.reach()
                await asyncio.sleep(WAIT_SECONDS)
            result = await original(*args, **kwargs)
            if after:
                watch.reach()
                await asyncio.sleep(WAIT_SECONDS)
            return result
        finally:
            watch.leave(step)

    return watched


def _watched_function(original: Callable[P, R], name_step: NameStep, watch: StepObserver) -> Callable[P, R]:
    @wraps(original)
    def watched(*args: P.args, **kwargs: P.kwargs) -> R:
        step = name_step(*args, **kwargs)
        if step is None:
            return original(*args, **kwargs)
        before, after = watch.enter(step)
        try:
            if before:
                watch.reach()
                time.sleep(WAIT_SECONDS)
            result = original(*args, **kwargs)
            if after:
                watch.reach()
                time.sleep(WAIT_SECONDS)
            return result
        finally:
            watch.leave(step)

    return watched
