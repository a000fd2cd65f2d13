"""Requests to the sandbox for photos, and validation of the answers. Decoding and rendering happen in the worker (`app/media/images`)."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.catalog.schema.records import FileKind
from app.config import Settings
from app.formats import MediaFormat
from app.formats.signatures import SIGNATURE_BYTES, DetectedFormat, detect_by_signature, find_content_format
from app.media.containers.truncation import check_not_truncated
from app.media.errors import DecodeFailed, LimitExceeded, SourceUnreadable, WorkerCrashed, to_one_line
from app.media.metadata.media_metadata import MediaMetadata
from app.media.processing_results import CropBox, GeneratedFile, MetadataResult, ProcessingResult
from app.media.sandbox.messages import ResourceLimits, SandboxRequest, get_descriptor, path_in_worker
from app.media.sandbox.result_parsing import parse_result
from app.media.sandbox.sandbox import Sandbox
from app.storage.ranges import ByteRange

_MAX_FILE_BYTES = 512 * 1024 * 1024
"""Limit on the bytes of one derivative: more than the largest permitted picture takes."""

_MAX_ANSWER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RenderedImages:
    """`brightness` is the mean of the thumbnail, 0 to 255."""

    result: ProcessingResult
    brightness: float


class PhotoProcessor:
    def __init__(self, sandbox: Sandbox, settings: Settings) -> None:
        self._sandbox = sandbox
        self._pixels = settings.media_pixels
        self._limits = ResourceLimits(
            seconds=settings.media_seconds,
            cpu_seconds=math.ceil(settings.media_seconds),
            memory=settings.media_memory,
            file_size=_MAX_FILE_BYTES,
            output=_MAX_ANSWER_BYTES,
        )

    async def read_metadata(self, source: Path, format: MediaFormat, sidecar: Path | None) -> MetadataResult:
        """See `MediaProcessor`."""
        content = await asyncio.to_thread(_detect_content, source, format)
        arguments = {"content": content.value}
        try:
            return await self._read_metadata("inspect_photo", source, sidecar, arguments | {"pixels": self._pixels})
        except (WorkerCrashed, LimitExceeded, DecodeFailed):  # perhaps while it looked for a motion video
            return await self._read_metadata("read_metadata", source, sidecar, arguments)

    async def complete_metadata(
        self, source: Path, metadata: MediaMetadata, sidecar: Path | None, *, has_packet: bool
    ) -> MetadataResult:
        """`metadata` of the video `source` with the fields of the sidecar, or of its own XMP packet if it `has_packet`, in place of its own, and
        with the time zone of its position."""
        has_zone = metadata.time_zone is not None or metadata.latitude is None
        if sidecar is None and not has_packet and has_zone:
            return MetadataResult(metadata)
        arguments = {"metadata": metadata.to_json(), "has_packet": has_packet}
        try:
            return await self._read_metadata("complete_metadata", source, sidecar, arguments)
        except (WorkerCrashed, LimitExceeded):
            if not has_packet:
                raise
            return await self.complete_metadata(source, metadata, sidecar, has_packet=False)

    async def _read_metadata(
        self, name: str, source: Path, sidecar: Path | None, arguments: dict[str, Any]
    ) -> MetadataResult:
        paths = [path_in_worker(source)] if sidecar is None else [path_in_worker(source), sidecar]
        shared = {"source": str(paths[0]), "sidecar": None if sidecar is None else str(sidecar)}
        request = self._build_request(name, paths, None, shared | arguments, get_descriptor(source))
        try:
            answer = parse_result(await self._sandbox.run(request))
        except (WorkerCrashed, LimitExceeded) as error:
            if sidecar is None:
                raise
            alone = await self._read_metadata(name, source, None, arguments)
            return replace(alone, sidecar_error=error.reason)
        with _check_answer():
            failure, motion = answer["sidecar_error"], answer.get("motion")
            return MetadataResult(
                MediaMetadata.from_json(answer["metadata"]),
                None if failure is None else to_one_line(str(failure)),
                is_motion_known=motion is not None,
                motion_video=ByteRange(int(motion["first"]), int(motion["last"])) if motion else None,
            )

    async def make_images(self, source: Path, format: MediaFormat, folder: Path) -> ProcessingResult:
        """See `MediaProcessor`."""
        content = await detect_format(source, format)
        rendered = await self.render_images(source, content, folder, fullsize=not format.is_web_supported)
        return rendered.result

    async def render_images(
        self, source: Path, content: DetectedFormat, folder: Path, *, fullsize: bool = False, prefix: str = ""
    ) -> RenderedImages:
        """Render preview and thumbnail, and a full-size JPEG if `fullsize`, into files whose names begin with `prefix`."""
        products = [
            GeneratedFile(FileKind.PREVIEW, folder / f"{prefix}preview.jpg", ".jpg", "image/jpeg"),
            GeneratedFile(FileKind.THUMBNAIL, folder / f"{prefix}thumbnail.webp", ".webp", "image/webp"),
        ]
        if fullsize:
            products.append(GeneratedFile(FileKind.FULLSIZE, folder / f"{prefix}fullsize.jpg", ".jpg", "image/jpeg"))
        names = {str(product.kind): product.path.name for product in products}
        arguments = {"preview": names["preview"], "thumbnail": names["thumbnail"], "fullsize": names.get("fullsize")}
        answer = await self._call("make_derivatives", source, content, folder, arguments)
        with _check_answer():
            processed = ProcessingResult(
                files=tuple(products),
                width=int(answer["width"]),
                height=int(answer["height"]),
                duration=None,
                thumbhash=base64.b64decode(answer["thumbhash"], validate=True),
                damage=None if answer["damage"] is None else to_one_line(str(answer["damage"])),
            )
            rendered = RenderedImages(processed, float(answer["brightness"]))
        await asyncio.to_thread(_check_written, products)
        return rendered

    async def make_square(
        self, source: Path, format: MediaFormat, box: CropBox | None, folder: Path, kind: FileKind
    ) -> GeneratedFile:
        """See `MediaProcessor`."""
        return await self._square(source, await detect_format(source, format), box, folder, kind)

    async def make_square_of_jpeg(
        self, source: Path, box: CropBox | None, folder: Path, kind: FileKind
    ) -> GeneratedFile:
        """Crop a JPEG that mediavault made, such as a poster. No format detection."""
        return await self._square(source, DetectedFormat.JPEG, box, folder, kind)

    async def find_motion_video(self, source: Path, format: MediaFormat) -> ByteRange | None:
        """See `MediaProcessor`."""
        content = await detect_format(source, format)
        answer = await self._call("locate_motion", source, content, None, {})
        if not answer:
            return None
        with _check_answer():
            return ByteRange(int(answer["first"]), int(answer["last"]))

    async def _square(
        self, source: Path, content: DetectedFormat, box: CropBox | None, folder: Path, kind: FileKind
    ) -> GeneratedFile:
        product = GeneratedFile(kind, folder / f"{kind}.jpg", ".jpg", "image/jpeg")
        arguments = {"box": None if box is None else _box_fractions(box), "square": product.path.name}
        await self._call("make_square", source, content, folder, arguments)
        await asyncio.to_thread(_check_written, [product])
        return product

    async def _call(
        self,
        name: str,
        source: Path,
        content: DetectedFormat,
        folder: Path | None,
        arguments: dict[str, Any],
    ) -> dict[str, Any]:
        worker_path = path_in_worker(source)
        shared = {"source": str(worker_path), "content": content.value, "pixels": self._pixels}
        request = self._build_request(name, [worker_path], folder, shared | arguments, get_descriptor(source))
        return parse_result(await self._sandbox.run(request))

    def _build_request(
        self,
        name: str,
        readable: Sequence[Path],
        folder: Path | None,
        arguments: dict[str, Any],
        descriptor: int | None,
    ) -> SandboxRequest:
        return SandboxRequest(
            call=name,
            arguments=arguments,
            program=(),
            folder=str(folder) if folder else "",
            readable=tuple(map(str, readable)),
            limits=self._limits,
            inherited_descriptor=descriptor,
        )


async def detect_media_format(source: Path, named: MediaFormat) -> MediaFormat:
    """See `MediaProcessor`."""
    return await asyncio.to_thread(_detect_media_format, source, named)


def _detect_media_format(source: Path, named: MediaFormat) -> MediaFormat:
    with _translate_disk_errors(), source.open("rb") as file:
        return find_content_format(file.read(SIGNATURE_BYTES), named)


async def detect_format(source: Path, format: MediaFormat) -> DetectedFormat:
    """The format of the file by its content. Raises `SourceUnreadable`, and `DecodeFailed` for a truncated file and for content that
    does not match the kind (photo, video) of its name."""
    return await asyncio.to_thread(_detect_complete_file, source, format)


def _detect_complete_file(source: Path, format: MediaFormat) -> DetectedFormat:
    content = _detect_content(source, format)
    with _translate_disk_errors():
        check_not_truncated(source, content)
    return content


def _detect_content(source: Path, format: MediaFormat) -> DetectedFormat:
    with _translate_disk_errors(), source.open("rb") as file:
        head = file.read(SIGNATURE_BYTES)
    if not head:
        raise DecodeFailed("the file is empty")
    content = detect_by_signature(head, format)
    if content is None:
        raise DecodeFailed(f"it is no {format.kind} that can be read, although it is named {format.extension}")
    return content


@contextmanager
def _translate_disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SourceUnreadable(f"it cannot be read: {error.strerror}") from None


def _check_written(products: Sequence[GeneratedFile]) -> None:
    for product in products:
        if not product.path.is_file() or not product.path.stat().st_size:
            raise WorkerCrashed(f"its {product.kind} was not written")


@contextmanager
def _check_answer() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError):
        raise WorkerCrashed("the process that worked on it answered with something else than a result") from None


def _box_fractions(box: CropBox) -> tuple[float, float, float, float]:
    return (
        box.left / box.image_width,
        box.top / box.image_height,
        box.right / box.image_width,
        box.bottom / box.image_height,
    )
