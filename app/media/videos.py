"""Videos: probed, shown by a frame, made playable. ffmpeg does the work, in the sandbox."""

from __future__ import annotations

import asyncio
import math
import os
from dataclasses import replace
from pathlib import Path

import structlog

from app.catalog.records import FileKind
from app.config import Settings
from app.formats import Format
from app.media import ffmpeg
from app.media.errors import DecodeFailed, MediaError, MissingTool, TooLarge
from app.media.ffmpeg import Tools
from app.media.outcomes import output_of
from app.media.photos import Derived, Photos, identify
from app.media.playable import Plan, Step, plan_for
from app.media.products import Processed, Product
from app.media.sandbox import Sandbox
from app.media.signatures import Content
from app.media.tools import find_programs
from app.media.video import Video, describe, parse_probe
from app.media.work import Limits, Work, descriptor_of, in_worker

_PROBE_ANSWER = 1024 * 1024
_POSTER_SIZE = 512 * 1024 * 1024
_DARK = 12.0
"""Mean brightness, of 255, below which a frame counts as black."""

_MOST_THREADS = 8
_SLACK = 64 * 1024 * 1024
_SMALLEST_LIMIT = 512 * 1024 * 1024
_GROWTH = 4
"""How much larger than the original an encoded video may be; from an old codec at a low rate it does become larger."""

_log = structlog.get_logger(__name__)


class Videos:
    def __init__(self, sandbox: Sandbox, photos: Photos, settings: Settings) -> None:
        self._sandbox = sandbox
        self._photos = photos
        self._settings = settings
        self._programs: tuple[str, str] | None = None
        self._tools: Tools | None = None
        self._asking = asyncio.Lock()
        self._threads = min(os.cpu_count() or 1, _MOST_THREADS)

    async def find_programs(self) -> None:
        """Look where they are; what they can do is asked when that is first needed."""
        self._programs = await asyncio.to_thread(find_programs)

    def programs(self) -> tuple[str, str]:
        """The paths of ffmpeg and ffprobe. Raises `MissingTool` where videos can be neither shown nor made playable."""
        if self._programs is None:
            raise MissingTool("videos need ffmpeg and ffprobe, which are not installed")
        return self._programs

    async def make_poster(self, source: Path, format: Format, folder: Path) -> Processed:
        """See `Processor`."""
        video = await self._probe(source, format)
        best: Derived | None = None
        failure: MediaError = DecodeFailed("none of its frames can be decoded")
        for attempt, (second, keyframe) in enumerate(_moments(video.duration)):
            try:
                found = await self._frame(source, video, folder, attempt, second, keyframe=keyframe)
            except DecodeFailed as error:
                failure = error
                continue
            if best is None or found.brightness > best.brightness:
                best = found
            if found.brightness >= _DARK:
                break
        if best is None:
            raise failure
        width, height = video.picture.shown_size
        duration = None if video.duration is None else round(video.duration * 1000)
        return replace(best.processed, width=width, height=height, duration=duration, metadata=describe(video))

    async def make_playable(self, source: Path, format: Format, folder: Path) -> Product | None:
        """See `Processor`."""
        video = await self._probe(source, format)
        plan = plan_for(video, format)
        if plan is None:
            return None
        product = Product(FileKind.ENCODED_VIDEO, folder / "encoded.mp4", ".mp4", "video/mp4")
        try:
            await self._encode(source, video, plan, product)
        except DecodeFailed as error:
            if plan.picture is Step.ENCODE:
                raise
            _log.info("a video cannot be remuxed and is encoded", reason=error.reason)
            await self._encode(source, video, Plan(Step.ENCODE, plan.sound and Step.ENCODE), product)
        return product

    async def _probe(self, source: Path, format: Format) -> Video:
        content = await identify(source, format)
        video = await self._probed(source, content)
        width, height = video.picture.shown_size
        if width * height > self._settings.media_pixels:
            raise TooLarge(f"it has {width} x {height} pixels, more than {self._settings.media_pixels}")
        return video

    async def _probed(self, source: Path, content: Content) -> Video:
        command = ffmpeg.probe(await self._ready(), in_worker(source), content)
        said = await self._run(command, None, source, file_size=0)
        return parse_probe(said, content)

    async def _frame(
        self, source: Path, video: Video, folder: Path, attempt: int, second: float, *, keyframe: bool
    ) -> Derived:
        name = f"poster-{attempt}.ppm"
        command = ffmpeg.poster(await self._ready(), in_worker(source), video, second, keyframe=keyframe, target=name)
        await self._run(command, folder, source, file_size=_POSTER_SIZE)
        frame = folder / name
        if not await asyncio.to_thread(frame.is_file):
            raise DecodeFailed("none of its frames can be decoded")
        derived = await self._photos.derive(frame, Content.PORTABLE, folder, prefix=f"{attempt}-")
        await asyncio.to_thread(frame.unlink)
        return derived

    async def _encode(self, source: Path, video: Video, plan: Plan, product: Product) -> None:
        size = (await asyncio.to_thread(source.stat)).st_size
        limit = max(_SMALLEST_LIMIT, size * _GROWTH)
        command = ffmpeg.encode(
            await self._ready(), in_worker(source), video, plan,
            threads=self._threads, size_limit=limit, target=product.path.name,
        )  # fmt: skip
        seconds = self._settings.transcode_seconds
        await self._run(command, product.path.parent, source, file_size=limit + _SLACK, seconds=seconds)
        # ffmpeg ends in peace where it reaches the limit on size, and where it found nothing to encode.
        written = await asyncio.to_thread(_size, product.path)
        if written >= limit:
            raise TooLarge(f"made playable, it would be larger than {limit} bytes")
        if not written:
            raise DecodeFailed("none of it can be decoded")
        await self._probed(product.path, Content.MOV)

    async def _run(
        self,
        command: tuple[str, ...],
        folder: Path | None,
        source: Path,
        *,
        file_size: int,
        seconds: float | None = None,
    ) -> str:
        work = self._work(command, folder, source, file_size=file_size, seconds=seconds)
        return output_of(await self._sandbox.run(work), str(in_worker(source)))

    def _work(
        self,
        command: tuple[str, ...],
        folder: Path | None,
        source: Path | None,
        *,
        file_size: int,
        seconds: float | None = None,
    ) -> Work:
        seconds = self._settings.media_seconds if seconds is None else seconds
        limits = Limits(
            seconds=seconds,
            cpu_seconds=math.ceil(seconds * self._threads),
            memory=self._settings.media_memory,
            file_size=file_size,
            output=_PROBE_ANSWER,
        )
        return Work(
            call="",
            arguments={},
            program=command,
            folder=str(folder) if folder else "",
            readable=(str(in_worker(source)),) if source else (),
            limits=limits,
            inherits=descriptor_of(source) if source else None,
        )

    async def _ready(self) -> Tools:
        programs = self.programs()
        async with self._asking:
            if self._tools is None:
                command = (programs[0], "-hide_banner", "-v", "error", "-filters")
                filters = output_of(await self._sandbox.run(self._work(command, None, None, file_size=0))).split()
                self._tools = Tools(*programs, tone_mapping={"zscale", "tonemap"} <= set(filters))
            return self._tools


def _moments(duration: float | None) -> list[tuple[float, bool]]:
    """Where to look for a frame, in seconds, and whether a key frame near it will do: many videos begin in black."""
    if duration is None:
        return [(3, True), (0, True), (0, False), (10, True)]
    return [
        (min(3, duration / 4), True),
        (duration / 4, True),
        (duration / 2, True),
        (duration / 2, False),
        (0, False),
    ]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
