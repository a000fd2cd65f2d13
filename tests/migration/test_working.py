"""A worker that is in the midst of a video while the library moves: switch and clean-up come between, and what it makes is whole."""

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
from app.migration.route import OPPOSITE_ENGINE
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

SECONDS = 10
WITHIN = 120.0
CUT_AFTER = 100_000
"""Bytes of the original that a worker gets before its connection breaks."""
MADE = {FileKind.THUMBNAIL, FileKind.PREVIEW, FileKind.ENCODED_VIDEO}


@dataclass(slots=True)
class Held:
    """A step of the worker: `reached` once it is in it, and there it stays until it is `let_go`."""

    reached: Callable[[], Awaitable[object]]
    let_go: Callable[[], object]


@pytest.fixture(scope="module")
async def processor() -> AsyncIterator[MediaProcessor]:
    settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]
    async with MediaProcessor(settings).running() as processor:
        yield processor


@pytest.fixture
def unplayable() -> bytes:
    """A video that is worth a transcode of a second or so."""
    pattern = f"testsrc2=size=960x540:rate=30:duration={SECONDS}"
    return make_video(".mp4", "-c:v", "mpeg4", "-q:v", "5", "-c:a", "aac", seconds=SECONDS, picture=pattern)


@asynccontextmanager
async def worker(
    library: Library, engine: StorageEngine, processor: MediaProcessor, **more: str
) -> AsyncIterator[ProcessingStack]:
    """As started with this engine, and `more` settings."""
    stack = replace(library.stack, engine="s3" if engine is StorageEngine.S3 else "local")
    async with open_processing_stack(stack, library.stack.folder / f"worker-{engine}", processor, **more) as place:
        yield place


async def keep(library: Library, processor: MediaProcessor, data: bytes) -> tuple[Asset, Task]:
    """The video, where the files are before they move."""
    async with worker(library, OPPOSITE_ENGINE[library.to], processor) as before:
        asset, task = await before.keep(data, "film.mp4")
    library.files.append(
        ExpectedFile(asset.id, asset.file.id, asset.file.path, hashlib.sha256(data).hexdigest(), len(data))
    )
    return asset, task


async def move(library: Library) -> None:
    """To its end: nothing that was there before is left at the source."""
    before = set(library.at_source())
    assert (await run_move(library.work())).problems.count == 0
    await switch_move(library.work())
    await library.age()
    assert (await clean_up_move(library.work())).problems.count == 0
    assert not before & set(library.at_source())


async def moved_meanwhile(library: Library, place: ProcessingStack, task: Task, held: Held) -> None:
    """The worker takes the task, and the library moves while it is held."""
    async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as group:
        working = group.create_task(place.pipeline().process(task))
        reaching = asyncio.ensure_future(held.reached())
        await asyncio.wait([working, reaching], return_when=asyncio.FIRST_COMPLETED)
        try:
            await move(library)
        finally:
            held.let_go()
        assert reaching.done(), "it never came to the step at which it was to be held"


async def check_film(place: ProcessingStack, asset: Asset, folder: Path, base: str) -> None:
    """All is made, and the video that browsers play lies below `base` and can be decoded from end to end."""
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


def before_its_turn(place: ProcessingStack, monkeypatch: pytest.MonkeyPatch) -> Held:
    """The poster is made; for the transcode nothing has been opened yet, as where others are transcoded first."""
    reached, free = asyncio.Event(), asyncio.Event()
    make_playable = place.processor.make_playable

    async def held(source: Path, format: MediaFormat, folder: Path) -> GeneratedFile | None:
        reached.set()
        await free.wait()
        return await make_playable(source, format, folder)

    monkeypatch.setattr(place.processor, "make_playable", held)
    return Held(reached.wait, free.set)


def in_the_midst(place: ProcessingStack, monkeypatch: pytest.MonkeyPatch) -> Held:
    """ffmpeg has begun to write, and stands still."""
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

    return Held(stop, go_on)


@pytest.mark.parametrize("step", [before_its_turn, in_the_midst], ids=lambda step: step.__name__)
async def test_a_transcode_outlives_switch_and_cleanup(
    make_library: MakeLibrary,
    way: MoveDirection,
    processor: MediaProcessor,
    unplayable: bytes,
    step: Callable[[ProcessingStack, pytest.MonkeyPatch], Held],
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
        await moved_meanwhile(library, place, task, before_its_turn(place, monkeypatch))
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
    """From S3: on a disk nothing is staged. The connection breaks, and what is asked for the rest holds it no more."""
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

        await moved_meanwhile(library, place, task, half_read(place.storage, monkeypatch))

        assert broken.seen
        await check_film(place, asset, tmp_path, library.target_base)
        await library.check_exact(at=library.target_base)
        await library.verify(made=len(MADE))


def half_read(storage: StorageService, monkeypatch: pytest.MonkeyPatch) -> Held:
    """The first bytes have come, and nobody takes the next ones."""
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
    return Held(reached.wait, free.set)
