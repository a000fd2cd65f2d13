"""A worker processes a video while the library is switched and cleaned up: its results are complete."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.catalog.schema.records import Asset, FileKind, Task
from app.config import Settings, StorageEngine
from app.formats import MediaFormat
from app.media.processing_results import GeneratedFile
from app.media.processor import MediaProcessor
from app.migration.source_and_target import OPPOSITE_ENGINE
from app.migration.steps.cleanup_step import clean_up_move
from app.migration.steps.run_step import run_move
from app.migration.steps.switch_step import switch_move
from app.storage.backend import ObjectStream
from app.storage.service import StorageService
from tests.media.processing_stack import ProcessingStack, open_processing_stack
from tests.media.video_files import make_video
from tests.migration.conftest import MakeLibrary, MoveDirection
from tests.migration.library import ExpectedFile, Library
from tests.real.archive_programs import program
from tests.real.catalogues import database
from tests.real.proxy import Fault, Proxy
from tests.real.seaweedfs import SeaweedFS
from tests.real.stacks import Database, Stacks
from tests.real.waiting import eventually_so

__all__ = ["database"]

SECONDS = 4
WITHIN = 120.0
CUT_AFTER = 100_000
"""Bytes of the original that a worker receives before its connection breaks."""
MADE = {FileKind.THUMBNAIL, FileKind.PREVIEW, FileKind.ENCODED_VIDEO}


@dataclass(slots=True)
class PausedStep:
    """A step of the worker that pauses: `reached` is set when the step begins, and it goes on when `resume` is set."""

    reached: Callable[[], Awaitable[object]]
    resume: Callable[[], object]


@pytest.fixture(scope="module")
async def processor() -> AsyncIterator[MediaProcessor]:
    settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    async with MediaProcessor(settings).running() as processor:
        yield processor


@pytest.fixture(scope="module")
def unplayable() -> bytes:
    """A video whose transcode takes half a second."""
    pattern = f"testsrc2=size=640x360:rate=30:duration={SECONDS}"
    return make_video(".mp4", "-c:v", "mpeg4", "-q:v", "5", "-c:a", "aac", seconds=SECONDS, picture=pattern)


@asynccontextmanager
async def worker(
    library: Library, engine: StorageEngine, processor: MediaProcessor, **more: str
) -> AsyncIterator[ProcessingStack]:
    """A worker with this engine and `more` settings."""
    stack = replace(library.stack, engine="s3" if engine is StorageEngine.S3 else "local")
    async with open_processing_stack(stack, library.stack.folder / f"worker-{engine}", processor, **more) as place:
        yield place


async def keep(library: Library, processor: MediaProcessor, data: bytes) -> tuple[Asset, Task]:
    """Store the video at the source."""
    async with worker(library, OPPOSITE_ENGINE[library.to], processor) as before:
        asset, task = await before.keep(data, "film.mp4")
    library.files.append(
        ExpectedFile(asset.id, asset.file.id, asset.file.path, hashlib.sha256(data).hexdigest(), len(data))
    )
    return asset, task


async def move(library: Library) -> None:
    """Move the library completely: nothing of it is left at the source."""
    before = set(library.at_source())
    assert (await run_move(library.work())).problems.count == 0
    await switch_move(library.work())
    await library.age()
    assert (await clean_up_move(library.work())).problems.count == 0
    assert not before & set(library.at_source())


async def moved_meanwhile(library: Library, place: ProcessingStack, task: Task, paused_step: PausedStep) -> None:
    """Let the worker take the task, and move the library while the worker is paused."""
    async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as group:
        working = group.create_task(place.pipeline().process(task))
        reaching = asyncio.ensure_future(paused_step.reached())
        await asyncio.wait([working, reaching], return_when=asyncio.FIRST_COMPLETED)
        try:
            await move(library)
        finally:
            paused_step.resume()
        assert reaching.done(), "it never came to the step at which it was to be held"


async def check_film(place: ProcessingStack, asset: Asset, folder: Path, base: str) -> None:
    """Assert that all derivatives exist, and that the playable video lies below `base` and can be decoded completely."""
    made = await place.made(asset)
    assert set(made) == MADE
    encoded = (await place.catalog.derivatives.get_for_asset(asset.id))[FileKind.ENCODED_VIDEO].file
    assert encoded.path.startswith(base), encoded.path
    playable = folder / "playable.mp4"
    playable.write_bytes(made[FileKind.ENCODED_VIDEO])
    command = [program("ffmpeg"), "-v", "error", "-xerror", "-i", str(playable), "-map", "0:v", "-f", "framemd5", "-"]
    decoded = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert (decoded.returncode, decoded.stderr) == (0, "")
    assert len([line for line in decoded.stdout.splitlines() if not line.startswith("#")]) == 30 * SECONDS


def paused_before_transcode(place: ProcessingStack, monkeypatch: pytest.MonkeyPatch) -> PausedStep:
    """Pause after the poster, before the transcode opens its input, as when the worker waits for other transcodes."""
    reached, free = asyncio.Event(), asyncio.Event()
    make_playable = place.processor.make_playable

    async def held(source: Path, format: MediaFormat, folder: Path) -> GeneratedFile | None:
        reached.set()
        await free.wait()
        return await make_playable(source, format, folder)

    monkeypatch.setattr(place.processor, "make_playable", held)
    return PausedStep(reached.wait, free.set)


def paused_during_transcode(place: ProcessingStack, monkeypatch: pytest.MonkeyPatch) -> PausedStep:
    """Pause ffmpeg (SIGSTOP) after it has begun to write."""
    stopped: list[psutil.Process] = []

    async def begun() -> bool:
        return any(place.staging.rglob("encoded.mp4"))

    async def stop() -> None:
        await eventually_so(begun, "ffmpeg begins to write", within=WITHIN)
        for process in psutil.Process().children(recursive=True):
            if "./encoded.mp4" in process.cmdline():
                process.suspend()
                stopped.append(process)
        assert stopped, "it has ended already"

    def go_on() -> None:
        for process in stopped:
            os.kill(process.pid, signal.SIGCONT)

    return PausedStep(stop, go_on)


@pytest.mark.parametrize("step", [paused_before_transcode, paused_during_transcode], ids=lambda step: step.__name__)
async def test_a_transcode_outlives_switch_and_cleanup(
    make_library: MakeLibrary,
    way: MoveDirection,
    processor: MediaProcessor,
    unplayable: bytes,
    step: Callable[[ProcessingStack, pytest.MonkeyPatch], PausedStep],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = await make_library()
    asset, task = await keep(library, processor, unplayable)
    async with worker(library, way.to, processor) as place:
        await moved_meanwhile(library, place, task, step(place, monkeypatch))
        await check_film(place, asset, tmp_path, library.target_base)
    await library.check_exact(at=library.target_base)
    await library.verify(made=len(MADE))


async def test_a_worker_that_was_not_restarted_stores_at_the_old_place_and_that_moves_next(
    make_library: MakeLibrary,
    way: MoveDirection,
    processor: MediaProcessor,
    unplayable: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = await make_library()
    asset, task = await keep(library, processor, unplayable)
    async with worker(library, OPPOSITE_ENGINE[way.to], processor) as place:
        await moved_meanwhile(library, place, task, paused_before_transcode(place, monkeypatch))
        await check_film(place, asset, tmp_path, library.source_base)
        await library.verify(made=len(MADE))
        await move(library)
        await check_film(place, asset, tmp_path, library.target_base)
    await library.check_exact(at=library.target_base)
    await library.verify(made=len(MADE))


async def test_an_original_that_is_being_staged_is_staged_from_where_it_is_now(
    database: Database,
    stacks: Stacks,
    seaweedfs: SeaweedFS,
    processor: MediaProcessor,
    unplayable: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On S3 only: local files are not staged. The connection breaks, and the object is no longer at its old path."""
    async with AsyncExitStack() as opened:
        library = await Library.create(stacks.create("s3", tmp_path, database=database), StorageEngine.LOCAL)
        opened.push_async_callback(library.aclose)
        asset, task = await keep(library, processor, unplayable)
        proxy = opened.enter_context(Proxy(seaweedfs.port))
        broken = Fault(lambda request: request.path.endswith(asset.file.path[-20:]), cut_after=CUT_AFTER, times=1)
        proxy.faults.append(broken)
        place = await opened.enter_async_context(
            worker(library, StorageEngine.LOCAL, processor, S3_ENDPOINT=proxy.endpoint)
        )

        await moved_meanwhile(library, place, task, paused_after_first_bytes(place.storage, monkeypatch))

        assert broken.seen
        await check_film(place, asset, tmp_path, library.target_base)
        await library.check_exact(at=library.target_base)
        await library.verify(made=len(MADE))


def paused_after_first_bytes(storage: StorageService, monkeypatch: pytest.MonkeyPatch) -> PausedStep:
    """Pause after the first bytes of a read."""
    reached, free = asyncio.Event(), asyncio.Event()
    read = storage.read

    @asynccontextmanager
    async def held(path: str, *span: Any) -> AsyncIterator[ObjectStream]:
        async with read(path, *span) as stream:
            yield replace(stream, chunks=held_up(stream.chunks))

    async def held_up(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk
            reached.set()
            await free.wait()

    monkeypatch.setattr(storage, "read", held)
    return PausedStep(reached.wait, free.set)
