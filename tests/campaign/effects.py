"""Reports the named steps of the code under test to a `StepObserver`: wraps the methods that have an effect on
catalogue, storage or client. The code under test is not changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from app.api.http.application import AsgiRequestCycle
from app.catalog.assets.assets import AssetRepository
from app.catalog.assets.derivatives import DerivativeRepository
from app.catalog.assets.duplicate_uploads import DuplicateUploadRepository
from app.catalog.assets.motion_photo_videos import MotionVideoRepository
from app.catalog.files import FileRepository
from app.catalog.foreign_files import ForeignFileRepository
from app.catalog.moves.kept_copies import KeptCopyRepository
from app.catalog.moves.move_ledger import MoveLedger
from app.catalog.moves.path_switches import PathSwitches
from app.catalog.tasks import TaskRepository
from app.catalog.uploads.uploads import UploadRepository
from app.media.processor import MediaProcessor
from app.storage.key import is_temporary
from app.storage.local.backend import LocalBackend
from app.storage.local.file_writer import PendingFile
from app.storage.local.resumable_file import ResumableFile
from app.storage.s3.protocol.client import S3Client
from app.storage.s3.resumable_state import find_tail_owner
from app.storage.staging import _StagedFile

P = ParamSpec("P")
R = TypeVar("R")
NameStep = Callable[..., str | None]

WAIT_SECONDS = 30.0
_UPLOADS = ("/api/uploads/", "/api/upload/")


class StepObserver(Protocol):
    """`enter` returns whether to call `reach` and then wait to be killed: before the step's effect, and after it."""

    def enter(self, step: str) -> tuple[bool, bool]: ...

    def leave(self, step: str) -> None: ...

    def reach(self) -> None: ...


def observe_effects(observer: StepObserver) -> None:
    """Wrap the methods, in this process, for the rest of its life."""
    for owner, name, step in _COROUTINES:
        setattr(owner, name, observe_coroutine(getattr(owner, name), step, observer))
    for owner, name, step in _FUNCTIONS:
        setattr(owner, name, _observe_function(getattr(owner, name), step, observer))


def _always(step: str) -> NameStep:
    return lambda *_, **__: step


def _unless_temporary(step: str, of_tail: str | None = None) -> NameStep:
    """The step, except for temporary objects, with which a process tests the capabilities of the store. `of_tail`: the step of a tail of
    an unfinished upload, which is a temporary object, too."""

    def name_step(_client: S3Client, key: str, *_: object, **__: object) -> str | None:
        if find_tail_owner(key) is not None:
            return of_tail
        return None if is_temporary(key) else step

    return name_step


def _synced(file: PendingFile, descriptor: int) -> str:
    return "file flushed" if descriptor == file._descriptor else "folder flushed"


def _upload_answered(cycle: AsgiRequestCycle, message: MutableMapping[str, Any]) -> str | None:
    """`answer`: the response with the asset. `chunk answered`: that of another request of a resumable upload that brings bytes."""
    if message["type"] != "http.response.start" or message["status"] not in (200, 201, 204):
        return None
    method, path = cycle._scope["method"], cycle._scope["path"]
    if (method, path) == ("POST", "/api/assets"):
        return "answer" if message["status"] == 201 else None
    if (method, path) == ("POST", "/api/upload") or (method == "PATCH" and path.startswith(_UPLOADS)):
        return "answer" if (b"content-type", b"application/json") in message["headers"] else "chunk answered"
    return None


_COROUTINES: list[tuple[type, str, NameStep]] = [
    (FileRepository, "begin_write", _always("file row begun")),
    (DuplicateUploadRepository, "begin_unless_known", _always("file row begun")),
    (UploadRepository, "create", _always("session created")),
    (UploadRepository, "take_over", _always("session taken over")),
    (UploadRepository, "save", _always("session saved")),
    (UploadRepository, "begin_file", _always("file row begun")),
    (AssetRepository, "insert", _always("live transaction")),
    (DuplicateUploadRepository, "complete_asset", _always("duplicate completed")),
    (AsgiRequestCycle, "send", _upload_answered),
    (AssetRepository, "trash", _always("trash")),
    (AssetRepository, "delete", _always("doom transaction")),
    (FileRepository, "claim_sweepable", _always("claim")),
    (FileRepository, "delete_swept", _always("row forgotten")),
    (TaskRepository, "_claim", _always("task claimed")),
    (MediaProcessor, "make_images", _always("pictures made")),
    (MediaProcessor, "make_poster", _always("pictures made")),
    (MediaProcessor, "make_playable", _always("playable video made")),
    (MediaProcessor, "read_metadata", _always("metadata read")),
    (DerivativeRepository, "swap_files", _always("derivatives swapped")),
    (MotionVideoRepository, "link_video", _always("motion added")),
    (TaskRepository, "finish", _always("task done")),
    (LocalBackend, "delete_objects", _always("object deleted")),
    (S3Client, "delete_batch", _always("object deleted")),
    (S3Client, "delete", _unless_temporary("object deleted", "tail deleted")),
    (S3Client, "put", _unless_temporary("object put", "tail put")),
    (S3Client, "create_upload", _unless_temporary("multipart upload created")),
    (S3Client, "upload_part", _unless_temporary("part uploaded")),
    (S3Client, "complete", _unless_temporary("multipart upload completed")),
    (MoveLedger, "begin_migration", _always("migration begun")),
    (MoveLedger, "plan_moves", _always("files planned")),
    (MoveLedger, "begin_copying", _always("copies begun")),
    (MoveLedger, "record_outcomes", _always("outcomes recorded")),
    (PathSwitches, "switch", _always("paths switched")),
    (PathSwitches, "switch_back", _always("paths switched back")),
    (PathSwitches, "cancel_moves", _always("copies given up")),
    (PathSwitches, "mark_sources_for_deletion", _always("sources doomed")),
    (MoveLedger, "finish_migration", _always("migration finished")),
    (ForeignFileRepository, "store_checksums", _always("checksums stored")),
    (ForeignFileRepository, "remove_unused_roots", _always("folders forgotten")),
    (KeptCopyRepository, "keep", _always("copies kept")),
    (KeptCopyRepository, "adopt", _always("files adopted")),
    (LocalBackend, "prune_folders", _always("folders pruned")),
]
_FUNCTIONS: list[tuple[type, str, NameStep]] = [
    (PendingFile, "__init__", _always("temporary file made")),
    (PendingFile, "write", _always("bytes written")),
    (PendingFile, "_sync", _synced),
    (PendingFile, "_rename", _always("file named")),
    (ResumableFile, "close", _always("file closed")),
    (_StagedFile, "finish", _always("original staged")),
]


def observe_coroutine(
    original: Callable[P, Awaitable[R]], name_step: NameStep, observer: StepObserver
) -> Callable[P, Coroutine[Any, Any, R]]:
    """The coroutine function, which reports the step that `name_step` names for its arguments (None: no step)."""

    @wraps(original)
    async def observed(*args: P.args, **kwargs: P.kwargs) -> R:
        step = name_step(*args, **kwargs)
        if step is None:
            return await original(*args, **kwargs)
        before, after = observer.enter(step)
        try:
            if before:
                observer.reach()
                await asyncio.sleep(WAIT_SECONDS)
            result = await original(*args, **kwargs)
            if after:
                observer.reach()
                await asyncio.sleep(WAIT_SECONDS)
            return result
        finally:
            observer.leave(step)

    return observed


def _observe_function(original: Callable[P, R], name_step: NameStep, observer: StepObserver) -> Callable[P, R]:
    @wraps(original)
    def observed(*args: P.args, **kwargs: P.kwargs) -> R:
        step = name_step(*args, **kwargs)
        if step is None:
            return original(*args, **kwargs)
        before, after = observer.enter(step)
        try:
            if before:
                observer.reach()
                time.sleep(WAIT_SECONDS)
            result = original(*args, **kwargs)
            if after:
                observer.reach()
                time.sleep(WAIT_SECONDS)
            return result
        finally:
            observer.leave(step)

    return observed
