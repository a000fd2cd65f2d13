"""Probes videos, renders posters and transcodes, with ffmpeg and ffprobe in the sandbox."""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.catalog.schema.records import FileKind
from app.config import Settings
from app.formats import MediaFormat
from app.formats.signatures import DetectedFormat
from app.media.containers.xmp_boxes import has_xmp_packet
from app.media.errors import DecodeFailed, LimitExceeded, MediaError, MissingTool
from app.media.photo_processor import PhotoProcessor, RenderedImages, detect_format
from app.media.processing_results import GeneratedFile, MetadataResult, ProcessingResult
from app.media.sandbox.messages import ResourceLimits, SandboxRequest, get_descriptor, path_in_worker
from app.media.sandbox.result_parsing import parse_output
from app.media.sandbox.sandbox import Sandbox
from app.media.video import ffmpeg_commands
from app.media.video.browser_support import plan_transcode
from app.media.video.container_metadata import extract_video_metadata
from app.media.video.encoders import (
    SOFTWARE_ENCODER,
    TranscodeAttempt,
    VideoEncoder,
    build_trial_command,
    find_encoder,
    list_attempts,
)
from app.media.video.ffmpeg_commands import FfmpegTools
from app.media.video.ffmpeg_location import find_ffmpeg
from app.media.video.probe_output import ProbedVideo, parse_probe

_MAX_PROBE_BYTES = 1024 * 1024
_MAX_POSTER_BYTES = 512 * 1024 * 1024
_DARK_BRIGHTNESS = 12.0
"""Mean brightness, of 255, below which a frame counts as black."""

_MAX_THREADS = 8
_SIZE_LIMIT_SLACK = 64 * 1024 * 1024
_MIN_SIZE_LIMIT = 512 * 1024 * 1024
_MAX_GROWTH = 4
"""Limit on the size of an encoded video, as a multiple of the original's size. Old codecs at a low bit rate do grow."""

_REMEMBERED_PROBES = 16
"""Metadata, poster and playable video of one original are made one after the other from one probe."""

_FileState = tuple[str, int, int, int, int, DetectedFormat]
"""Path, device, inode, size, time of modification in nanoseconds, and content of a file that was probed."""

_log = structlog.get_logger(__name__)


class VideoProcessor:
    def __init__(self, sandbox: Sandbox, photos: PhotoProcessor, settings: Settings) -> None:
        self._sandbox = sandbox
        self._photos = photos
        self._settings = settings
        self._programs: tuple[str, str] | None = None
        self._tools: FfmpegTools | None = None
        self._tools_lock = asyncio.Lock()
        self._threads = min(os.cpu_count() or 1, _MAX_THREADS)
        self._encoder: VideoEncoder | None = None
        self._encoder_lock = asyncio.Lock()
        self._probes: OrderedDict[_FileState, ProbedVideo] = OrderedDict()

    async def locate_ffmpeg(self) -> None:
        """Look for ffmpeg and ffprobe. Their filters are queried at first use."""
        self._programs = await asyncio.to_thread(find_ffmpeg)

    def require_ffmpeg(self) -> tuple[str, str]:
        """The paths of ffmpeg and ffprobe. Raises `MissingTool` if they are not installed."""
        if self._programs is None:
            raise MissingTool("videos need ffmpeg and ffprobe, which are not installed")
        return self._programs

    async def read_metadata(self, source: Path, format: MediaFormat, sidecar: Path | None) -> MetadataResult:
        """See `MediaProcessor`."""
        video = await self._probe_once(source, await detect_format(source, format))
        metadata = extract_video_metadata(video, datetime.now(UTC))
        has_packet = video.content is DetectedFormat.MOV and await asyncio.to_thread(has_xmp_packet, source)
        return await self._photos.complete_metadata(source, metadata, sidecar, has_packet=has_packet)

    async def make_poster(self, source: Path, format: MediaFormat, folder: Path) -> ProcessingResult:
        """See `MediaProcessor`."""
        video = await self._probe(source, format)
        best: RenderedImages | None = None
        failure: MediaError = DecodeFailed("none of its frames can be decoded")
        for attempt, (second, keyframe) in enumerate(_choose_poster_times(video.duration)):
            try:
                rendered = await self._render_frame(source, video, folder, attempt, second, keyframe=keyframe)
            except DecodeFailed as error:
                failure = error
                continue
            if best is None or rendered.brightness > best.brightness:
                best = rendered
            if rendered.brightness >= _DARK_BRIGHTNESS:
                break
        if best is None:
            raise failure
        width, height = video.video_stream.display_size
        duration = None if video.duration is None else round(video.duration * 1000)
        return replace(best.result, width=width, height=height, duration=duration)

    async def make_playable(self, source: Path, format: MediaFormat, folder: Path) -> GeneratedFile | None:
        """See `MediaProcessor`."""
        video = await self._probe(source, format)
        plan = plan_transcode(video, format)
        if plan is None:
            return None
        product = GeneratedFile(FileKind.ENCODED_VIDEO, folder / "encoded.mp4", ".mp4", "video/mp4")
        *others, last = list_attempts(plan, await self._get_encoder())
        for attempt in others:
            try:
                await self._encode(source, video, attempt, product)
            except attempt.failures as error:
                _log.info("a video is made playable in another way", codec=attempt.codec, reason=error.reason)
            else:
                return product
        await self._encode(source, video, last, product)
        return product

    async def _probe(self, source: Path, format: MediaFormat) -> ProbedVideo:
        content = await detect_format(source, format)
        video = await self._probe_once(source, content)
        if video.undecodable is not None:
            raise DecodeFailed(video.undecodable)
        width, height = video.video_stream.display_size
        if width * height > self._settings.media_pixels:
            raise LimitExceeded(f"it has {width} x {height} pixels, more than {self._settings.media_pixels}")
        return video

    async def _probe_once(self, source: Path, content: DetectedFormat) -> ProbedVideo:
        """As `_run_probe`, for a file that may have been probed a moment ago."""
        status = await asyncio.to_thread(source.stat)
        state = (str(source), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, content)
        if state not in self._probes:
            self._probes[state] = await self._run_probe(source, content)
            while len(self._probes) > _REMEMBERED_PROBES:
                self._probes.popitem(last=False)
        return self._probes[state]

    async def _run_probe(self, source: Path, content: DetectedFormat) -> ProbedVideo:
        tools = await self._get_tools()
        command = ffmpeg_commands.build_probe_command(tools, path_in_worker(source), content)
        return parse_probe(await self._run(command, None, source, file_size=0), content, tools.decodable)

    async def _render_frame(
        self, source: Path, video: ProbedVideo, folder: Path, attempt: int, second: float, *, keyframe: bool
    ) -> RenderedImages:
        name = f"poster-{attempt}.ppm"
        command = ffmpeg_commands.build_poster_command(
            await self._get_tools(), path_in_worker(source), video, second, keyframe=keyframe, target=name
        )
        await self._run(command, folder, source, file_size=_MAX_POSTER_BYTES)
        frame = folder / name
        if not await asyncio.to_thread(frame.is_file):
            raise DecodeFailed("none of its frames can be decoded")
        rendered = await self._photos.render_images(frame, DetectedFormat.PPM, folder, prefix=f"{attempt}-")
        await asyncio.to_thread(frame.unlink)
        return rendered

    async def _encode(
        self, source: Path, video: ProbedVideo, attempt: TranscodeAttempt, product: GeneratedFile
    ) -> None:
        size = (await asyncio.to_thread(source.stat)).st_size
        limit = max(_MIN_SIZE_LIMIT, size * _MAX_GROWTH)
        command = ffmpeg_commands.build_encode_command(
            await self._get_tools(), path_in_worker(source), video, attempt.plan, attempt.encoder,
            threads=self._threads, size_limit=limit, target=product.path.name,
        )  # fmt: skip
        request = self._build_request(
            command,
            product.path.parent,
            source,
            file_size=limit + _SIZE_LIMIT_SLACK,
            seconds=self._settings.transcode_seconds,
        )
        parse_output(await self._sandbox.run(attempt.encoder.permit(request)), str(path_in_worker(source)))
        # ffmpeg exits with status 0 also when it reaches the size limit, and when it found nothing to encode.
        written_bytes = await asyncio.to_thread(_file_size, product.path)
        if written_bytes >= limit:
            raise LimitExceeded(f"made playable, it would be larger than {limit} bytes")
        if not written_bytes:
            raise DecodeFailed("none of it can be decoded")
        await self._run_probe(product.path, DetectedFormat.MOV)

    async def _run(
        self,
        command: tuple[str, ...],
        folder: Path | None,
        source: Path,
        *,
        file_size: int,
    ) -> str:
        request = self._build_request(command, folder, source, file_size=file_size)
        return parse_output(await self._sandbox.run(request), str(path_in_worker(source)))

    def _build_request(
        self,
        command: tuple[str, ...],
        folder: Path | None,
        source: Path | None,
        *,
        file_size: int,
        seconds: float | None = None,
    ) -> SandboxRequest:
        seconds = self._settings.media_seconds if seconds is None else seconds
        limits = ResourceLimits(
            seconds=seconds,
            cpu_seconds=math.ceil(seconds * self._threads),
            memory=self._settings.media_memory,
            file_size=file_size,
            output=_MAX_PROBE_BYTES,
        )
        return SandboxRequest(
            call="",
            arguments={},
            program=command,
            folder=str(folder) if folder else "",
            readable=(str(path_in_worker(source)),) if source else (),
            limits=limits,
            inherited_descriptor=get_descriptor(source) if source else None,
        )

    async def _get_tools(self) -> FfmpegTools:
        programs = self.require_ffmpeg()
        async with self._tools_lock:
            if self._tools is None:
                filters = (await self._ask(programs[0], "-filters")).split()
                self._tools = FfmpegTools(
                    *programs,
                    has_tone_mapping={"zscale", "tonemap"} <= set(filters),
                    has_input_filters=_is_version_7(await self._ask(programs[0], "-version")),
                    decodable=_read_decodable(await self._ask(programs[0], "-codecs")),
                )
            return self._tools

    async def _get_encoder(self) -> VideoEncoder:
        """That of the settings, or libx264 where it does not work."""
        tools = await self._get_tools()
        async with self._encoder_lock:
            if self._encoder is None:
                self._encoder = await self._try_encoder(tools.ffmpeg)
            return self._encoder

    async def _try_encoder(self, ffmpeg: str) -> VideoEncoder:
        name = self._settings.transcode_encoder
        encoder = find_encoder(name, self._settings.transcode_device)
        if encoder is SOFTWARE_ENCODER:
            return encoder
        request = self._build_request(build_trial_command(ffmpeg, encoder), None, None, file_size=0)
        try:
            parse_output(await self._sandbox.run(encoder.permit(request)))
        except MediaError as error:
            _log.warning(
                "the hardware encoder does not work: videos are encoded by libx264", encoder=name, reason=error.reason
            )
            return SOFTWARE_ENCODER
        return encoder

    async def _ask(self, ffmpeg: str, option: str) -> str:
        """What ffmpeg says about itself."""
        command = (ffmpeg, "-hide_banner", "-v", "error", option)
        return parse_output(await self._sandbox.run(self._build_request(command, None, None, file_size=0)))


def _is_version_7(output: str) -> bool:
    """Whether ffmpeg's version is 7 or later. Builds from its repository have no number, and are taken for new."""
    number = re.match(r"ffmpeg version n?(\d+)\.", output)
    return number is None or int(number[1]) >= 7


def _read_decodable(output: str) -> frozenset[str]:
    """The names in the list of codecs whose flags begin with D: ` DEV.LS h264   H.264 / AVC …`."""
    return frozenset(re.findall(r"^ D[\w.]{5} (\w\S*)", output, re.MULTILINE))


def _choose_poster_times(duration: float | None) -> list[tuple[float, bool]]:
    """Candidate times of the poster in seconds, each with whether a key frame near it suffices. Several, because many videos begin black."""
    if duration is None:
        return [(3, True), (0, True), (0, False), (10, True)]
    return [
        (min(3, duration / 4), True),
        (duration / 4, True),
        (duration / 2, True),
        (duration / 2, False),
        (0, False),
    ]


def _file_size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
