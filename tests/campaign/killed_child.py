"""`python -m tests.campaign.killed_child <order>`: carries out one upload, one removal, one task or one command of a move.

The process kills itself right before or right after its n-th effect on catalogue or storage, or a moment after it entered
a named step. The order is a `ChildOrder` as JSON. Steps and results are written to files. `ForkServer` starts it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.schema.records import FileKind
from app.config import Settings
from app.formats import MediaFormat
from app.jobs.sweeper import sweep
from app.jobs.task_executor import TaskExecutor
from app.libraries.import_paths.link_roots import update_foreign_roots
from app.media.generated_file_store import GeneratedFileStore
from app.media.metadata.media_metadata import MediaMetadata
from app.media.pipeline import ProcessingPipeline
from app.media.processing_results import GeneratedFile, MetadataResult, ProcessingResult
from app.media.processor import MediaProcessor
from app.migration.migration_context import DEFAULT_CONCURRENCY, MigrationContext
from app.migration.source_and_target import find_route
from app.migration.step_progress import SilentProgress
from app.migration.steps.adopt_step import adopt_foreign_files, make_adoption_context
from app.migration.steps.cleanup_step import clean_up_move
from app.migration.steps.rollback_step import roll_back_move
from app.migration.steps.run_step import run_move
from app.migration.steps.switch_step import switch_move
from app.storage.opening import open_storage
from app.storage.ranges import ByteRange
from app.storage.service import StorageService
from app.uploads.ingest import UploadIngest
from tests.campaign.effects import observe_effects
from tests.real.uploads import FORM_TAIL, FORM_TYPE, form_head, sidecar_part

CHUNK_BYTES = 64 * 1024
PRODUCT_BYTES = 3000
MOTION_BYTES = 2000


@dataclass(frozen=True, slots=True)
class ChildOrder:
    """One operation, and the moment of the child's death. `effect` counts from 1; 0 lets the child live. With `step`,
    the child dies `pause` seconds after it entered that step for the `effect`-th time, while everything else continues.
    The operation is the `command` of a move (`concurrency` files at once), the removal of `asset`, or the processing of
    `photo`; without these it is the upload of `data`, with `sidecar` (its text) if there is one.
    The child appends the names of its steps to the file `steps`."""

    settings: dict[str, str]
    user: str
    effect: int
    after: bool
    steps: str
    data: str = ""
    asset: str = ""
    command: str = ""
    concurrency: int = DEFAULT_CONCURRENCY
    step: str = ""
    pause: float = 0.0
    photo: str = ""
    sidecar: str = ""


class KillCountdown:
    """Counts effects, and kills the process at the chosen one."""

    def __init__(self, order: ChildOrder) -> None:
        self._effect = order.effect
        self._after = order.after
        self._step = order.step
        self._pause = order.pause
        self._steps = os.open(order.steps, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._count = 0

    def enter(self, step: str) -> tuple[bool, bool]:
        os.write(self._steps, f"{step}\n".encode())
        if self._step not in ("", step):
            return False, False
        self._count += 1
        chosen = self._count == self._effect
        return chosen and not self._after, chosen and self._after

    def leave(self, step: str) -> None:
        """Does nothing: only entries are counted."""

    def reach(self) -> None:
        if not self._pause:
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Timer(self._pause, os.kill, (os.getpid(), signal.SIGKILL)).start()


async def carry_out(order: ChildOrder) -> None:
    settings = Settings(_env_file=None, **order.settings)  # pyright: ignore[reportCallIssue, reportArgumentType]
    catalog = await open_catalog(settings.db_url.get_secret_value(), upgrade=False)
    storage = await open_storage(settings)
    observe_effects(KillCountdown(order))
    try:
        if order.command:
            await _move(order, catalog, storage)
        elif order.asset:
            await catalog.assets.delete(UUID(order.user), [UUID(order.asset)])
            await sweep(catalog, storage, now=datetime.now(UTC))
        elif order.photo:
            await _process(order, catalog, storage)
        else:
            await _upload(order, catalog, storage, settings)
    finally:
        await storage.aclose()
        await catalog.aclose()


async def _move(order: ChildOrder, catalog: Catalog, storage: StorageService) -> None:
    await update_foreign_roots(catalog, storage)
    if order.command == adopt_foreign_files.__name__:
        context = make_adoption_context(catalog, storage, SilentProgress())
        await adopt_foreign_files(replace(context, concurrency=order.concurrency))
        return
    commands = {command.__name__: command for command in (run_move, switch_move, roll_back_move, clean_up_move)}
    route = find_route(storage, storage.engine)
    await commands[order.command](MigrationContext(catalog, storage, route, concurrency=order.concurrency))


async def _upload(order: ChildOrder, catalog: Catalog, storage: StorageService, settings: Settings) -> None:
    user = await catalog.users.get(UUID(order.user))
    assert user is not None
    fields = {"isFavorite": "true"} if order.sidecar else {}
    sidecar = sidecar_part(order.sidecar.encode()) if order.sidecar else b""
    body = form_head(fields=fields) + Path(order.data).read_bytes() + sidecar + FORM_TAIL
    chunks = iter([body[at : at + CHUNK_BYTES] for at in range(0, len(body), CHUNK_BYTES)])
    unsent = len(body)

    async def receive() -> MutableMapping[str, Any]:
        nonlocal unsent
        chunk = next(chunks)
        unsent -= len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": unsent > 0}

    await UploadIngest(catalog, storage, settings).upload(user, FORM_TYPE, len(body), None, receive)


class PreparedProcessor(MediaProcessor):
    """Returns prepared results without decoding the photo, and treats the photo's last bytes as its motion video.
    Decoding has its own tests, and would need a sandbox process that outlives a killed child for a moment."""

    def __init__(self) -> None:
        """Does not call the base class: no sandbox is needed."""

    async def read_metadata(self, source: Path, format: MediaFormat, sidecar: Path | None = None) -> MetadataResult:
        return MetadataResult(MediaMetadata(make="Nobody"))

    async def make_images(self, source: Path, format: MediaFormat, folder: Path) -> ProcessingResult:
        products = tuple(_product(kind, folder) for kind in (FileKind.PREVIEW, FileKind.THUMBNAIL))
        return ProcessingResult(products, 4, 3, None, b"hash")

    async def find_motion_video(self, source: Path, format: MediaFormat) -> ByteRange | None:
        size = source.stat().st_size
        return ByteRange(size - MOTION_BYTES, size - 1)


def _product(kind: FileKind, folder: Path) -> GeneratedFile:
    made = folder / kind.value
    made.write_bytes(os.urandom(PRODUCT_BYTES))
    return GeneratedFile(kind, made, ".jpeg", "image/jpeg")


async def _process(order: ChildOrder, catalog: Catalog, storage: StorageService) -> None:
    await storage.staging.open()
    task = await catalog.tasks.get_for_asset(UUID(order.photo))
    assert task is not None
    publisher = GeneratedFileStore(catalog, storage)
    pipeline = ProcessingPipeline(catalog, storage, PreparedProcessor(), publisher, max_transcodes=1)
    await TaskExecutor(catalog, pipeline.process, {task.kind: 1}).run_task(task.id, task.kind)


def main() -> None:
    asyncio.run(carry_out(ChildOrder(**json.loads(sys.argv[1]))))
    sys.stderr.flush()
    os._exit(0)  # at once: a timer that is to kill the process would delay its end


if __name__ == "__main__":
    main()
