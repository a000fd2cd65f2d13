"""Photos: what a worker is asked to make of one, and what its answer has to look like."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.catalog.records import FileKind
from app.config import Settings
from app.formats import Format
from app.media.errors import Crashed, DecodeFailed, Unreadable
from app.media.integrity import check_complete
from app.media.metadata import Metadata
from app.media.outcomes import result_of
from app.media.products import Box, Processed, Product
from app.media.sandbox import Sandbox
from app.media.signatures import HEAD_BYTES, Content, recognise
from app.media.work import Limits, Work, descriptor_of, in_worker
from app.storage.ranges import ByteRange

_FILE_SIZE = 512 * 1024 * 1024
"""Bytes of one derivative: more than the largest picture that is permitted takes."""

_ANSWER = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Derived:
    """`brightness` is the preview's mean, 0 to 255."""

    processed: Processed
    brightness: float


class Photos:
    def __init__(self, sandbox: Sandbox, settings: Settings) -> None:
        self._sandbox = sandbox
        self._pixels = settings.media_pixels
        self._limits = Limits(
            seconds=settings.media_seconds,
            cpu_seconds=math.ceil(settings.media_seconds),
            memory=settings.media_memory,
            file_size=_FILE_SIZE,
            output=_ANSWER,
        )

    async def make_images(self, source: Path, format: Format, folder: Path) -> Processed:
        """See `Processor`."""
        content = await identify(source, format)
        made = await self.derive(source, content, folder, fullsize=not format.web)
        return made.processed

    async def derive(
        self, source: Path, content: Content, folder: Path, *, fullsize: bool = False, prefix: str = ""
    ) -> Derived:
        """Preview and thumbnail, `fullsize` too if asked for, in files whose names begin with `prefix`."""
        products = [
            Product(FileKind.PREVIEW, folder / f"{prefix}preview.jpg", ".jpg", "image/jpeg"),
            Product(FileKind.THUMBNAIL, folder / f"{prefix}thumbnail.webp", ".webp", "image/webp"),
        ]
        if fullsize:
            products.append(Product(FileKind.FULLSIZE, folder / f"{prefix}fullsize.jpg", ".jpg", "image/jpeg"))
        names = {str(product.kind): product.path.name for product in products}
        arguments = {"preview": names["preview"], "thumbnail": names["thumbnail"], "fullsize": names.get("fullsize")}
        said = await self._call("make_derivatives", source, content, folder, arguments)
        with _understood():
            processed = Processed(
                products=tuple(products),
                width=int(said["width"]),
                height=int(said["height"]),
                duration=None,
                thumbhash=base64.b64decode(said["thumbhash"], validate=True),
                metadata=Metadata.from_json(said["metadata"]),
            )
            derived = Derived(processed, float(said["brightness"]))
        await asyncio.to_thread(_check_made, products)
        return derived

    async def make_square(self, source: Path, format: Format, box: Box | None, folder: Path, kind: FileKind) -> Product:
        """See `Processor`."""
        return await self._square(source, await identify(source, format), box, folder, kind)

    async def make_square_of_jpeg(self, source: Path, box: Box | None, folder: Path, kind: FileKind) -> Product:
        """Of a picture that is ours already."""
        return await self._square(source, Content.JPEG, box, folder, kind)

    async def find_motion(self, source: Path, format: Format) -> ByteRange | None:
        """See `Processor`."""
        content = await identify(source, format)
        found = await self._call("locate_motion", source, content, None, {})
        if not found:
            return None
        with _understood():
            return ByteRange(int(found["first"]), int(found["last"]))

    async def _square(self, source: Path, content: Content, box: Box | None, folder: Path, kind: FileKind) -> Product:
        product = Product(kind, folder / f"{kind}.jpg", ".jpg", "image/jpeg")
        arguments = {"box": None if box is None else _fractions(box), "square": product.path.name}
        await self._call("make_square", source, content, folder, arguments)
        await asyncio.to_thread(_check_made, [product])
        return product

    async def _call(
        self, name: str, source: Path, content: Content, folder: Path | None, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        seen = str(in_worker(source))
        work = Work(
            call=name,
            arguments={"source": seen, "content": content.value, "pixels": self._pixels} | arguments,
            program=(),
            folder=str(folder) if folder else "",
            readable=(seen,),
            limits=self._limits,
            inherits=descriptor_of(source),
        )
        return result_of(await self._sandbox.run(work))


async def identify(source: Path, format: Format) -> Content:
    """What the file is, by its content. Raises `DecodeFailed` for what is none of the kinds that its name may stand for, or was cut
    short, and `Unreadable`."""
    return await asyncio.to_thread(_identify, source, format)


def _identify(source: Path, format: Format) -> Content:
    try:
        with source.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if not head:
            raise DecodeFailed("the file is empty")
        content = recognise(head, format)
        if content is None:
            raise DecodeFailed(f"it is no {format.kind} that can be read, although it is named {format.extension}")
        check_complete(source, content)
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror}") from None
    return content


def _check_made(products: Sequence[Product]) -> None:
    for product in products:
        if not product.path.is_file() or not product.path.stat().st_size:
            raise Crashed(f"its {product.kind} was not written")


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Crashed("the process that worked on it answered with something else than a result") from None


def _fractions(box: Box) -> tuple[float, float, float, float]:
    return (
        box.left / box.image_width,
        box.top / box.image_height,
        box.right / box.image_width,
        box.bottom / box.image_height,
    )
