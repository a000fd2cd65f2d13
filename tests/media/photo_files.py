"""Photos with a colour in each corner, in every format, and what their corners look like afterwards."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pillow_heif
import pillow_jxl  # noqa: F401 - makes Pillow know the format
from PIL import Image, ImageStat

pillow_heif.register_heif_opener()

RED, GREEN, BLUE, GREY = (200, 40, 40), (40, 160, 60), (50, 60, 190), (128, 128, 128)
CORNERS = (RED, GREEN, BLUE, GREY)
"""Top left, top right, bottom left, bottom right."""

Colour = tuple[int, ...]


def make_quarters(width: int = 640, height: int = 480, colours: tuple[Colour, ...] = CORNERS) -> Image.Image:
    """Four quarters of one colour each."""
    image = Image.new("RGB", (width, height))
    for place, colour in enumerate(colours):
        left, top = (place % 2) * (width // 2), (place // 2) * (height // 2)
        image.paste(colour, (left, top, left + (width + 1) // 2, top + (height + 1) // 2))
    return image


def read_corners(image: Image.Image) -> tuple[Colour, ...]:
    """The mean colour of the middle of each quarter."""
    plain = image.convert("RGB")
    width, height = plain.size
    found = []
    for place in range(4):
        left, top = (place % 2) * width / 2 + width / 8, (place // 2) * height / 2 + height / 8
        patch = plain.crop((round(left), round(top), round(left + width / 4), round(top + height / 4)))
        found.append(tuple(round(mean) for mean in ImageStat.Stat(patch).mean))
    return tuple(found)


def assert_corners(image: Image.Image, expected: tuple[Colour, ...] = CORNERS, within: int = 3) -> None:
    found = read_corners(image)
    distance = max(
        abs(a - b) for have, want in zip(found, expected, strict=True) for a, b in zip(have, want, strict=True)
    )
    assert distance <= within, f"{found} for {expected}"


@dataclass(frozen=True, slots=True)
class ExpectedCorners:
    """How a picture is written in one format; `within`: what the format itself changes of a colour, of 255."""

    extension: str
    write: Callable[[Image.Image, Path], None]
    within: int = 3


def _saved(format: str, **options: object) -> Callable[[Image.Image, Path], None]:
    return lambda image, path: image.save(path, format, **options)


def _gif(image: Image.Image, path: Path) -> None:
    image.quantize(8).save(path, "GIF")


def _psd(image: Image.Image, path: Path) -> None:
    """Adobe's format, without layers."""
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, image.height, image.width, 8, 3)
    planes = b"".join(channel.tobytes() for channel in image.split())
    path.write_bytes(header + bytes(12) + b"\0\0" + planes)


FORMATS = (
    ExpectedCorners(".jpg", _saved("JPEG", quality=95, subsampling=0)),
    ExpectedCorners(".jpe", _saved("JPEG", quality=95, progressive=True)),
    ExpectedCorners(".insp", _saved("JPEG", quality=95)),
    ExpectedCorners(".png", _saved("PNG")),
    ExpectedCorners(".gif", _gif),
    ExpectedCorners(".webp", _saved("WEBP", lossless=True)),
    ExpectedCorners(".avif", _saved("AVIF", quality=95, subsampling="4:4:4")),
    ExpectedCorners(".heic", _saved("HEIF", quality=95)),
    ExpectedCorners(".heif", _saved("HEIF", quality=-1, chroma=444)),
    ExpectedCorners(".hif", _saved("HEIF", quality=95)),
    ExpectedCorners(".tif", _saved("TIFF", compression="tiff_lzw")),
    ExpectedCorners(".tiff", _saved("TIFF")),
    ExpectedCorners(".bmp", _saved("BMP")),
    ExpectedCorners(".jp2", _saved("JPEG2000")),
    ExpectedCorners(".jxl", _saved("JXL", quality=98)),
    ExpectedCorners(".psd", _psd),
)


def encode_jpeg(image: Image.Image, **options: object) -> bytes:
    return encode_image(image, "JPEG", **({"quality": 95, "subsampling": 0} | options))


def encode_image(image: Image.Image, format: str, **options: object) -> bytes:
    held = io.BytesIO()
    image.save(held, format, **options)
    return held.getvalue()


_SHORT, _LONG, _RATIONAL, _SIGNED_RATIONAL, _BYTE, _ASCII = 3, 4, 5, 10, 1, 2
_WIDTHS = {_SHORT: "H", _LONG: "I", _RATIONAL: "I", _SIGNED_RATIONAL: "i", _BYTE: "B"}


def _directory(at: int, entries: dict[int, tuple[int, tuple[int, ...] | bytes]]) -> bytes:
    """A TIFF directory at `at`, with its values behind it."""
    body = struct.pack("<H", len(entries))
    values = b""
    values_at = at + 2 + 12 * len(entries) + 4
    for tag, (kind, value) in sorted(entries.items()):
        data = value if isinstance(value, bytes) else struct.pack(f"<{len(value)}{_WIDTHS[kind]}", *value)
        count = len(value) // (2 if kind in (_RATIONAL, _SIGNED_RATIONAL) else 1)
        if len(data) <= 4:
            body += struct.pack("<HHI4s", tag, kind, count, data)
        else:
            body += struct.pack("<HHII", tag, kind, count, values_at + len(values))
            values += data + bytes(len(data) % 2)
    return body + bytes(4) + values


def encode_dng(image: Image.Image, *, preview: Image.Image | None = None, orientation: int = 1) -> bytes:
    """A digital negative: the picture behind a colour filter, and perhaps a JPEG beside it (DNG 1.4)."""
    width, height = image.size
    red, green, blue = image.split()
    planes = [plane.load() for plane in (red, green, blue)]
    sensor = bytearray()
    for y in range(height):
        for x in range(width):
            plane = planes[(y % 2) + (x % 2)]
            assert plane is not None
            value = plane[x, y]
            assert isinstance(value, int)
            sensor += struct.pack("<H", round((value / 255) ** 2.2 * 65535))
    shown = encode_jpeg(preview) if preview is not None else b""
    sensor_at = 8 + len(shown) + len(shown) % 2
    raw_at = sensor_at + len(sensor)
    named = {
        271: (_ASCII, b"Camera Works\0"),
        272: (_ASCII, b"Model One\0"),
        274: (_SHORT, (orientation,)),
        50706: (_BYTE, (1, 4, 0, 0)),
        50708: (_ASCII, b"Camera Works Model One\0"),
        # From XYZ to the camera's colours, which are sRGB's here.
        50721: (_SIGNED_RATIONAL, (32406, 10000, -15372, 10000, -4986, 10000, -9689, 10000, 18758, 10000, 415, 10000, 557, 10000, -2040, 10000, 10570, 10000)),
        50728: (_RATIONAL, (1, 1, 1, 1, 1, 1)),
        50778: (_SHORT, (21,)),
    }  # fmt: skip
    sensed = {
        254: (_LONG, (0,)), 256: (_LONG, (width,)), 257: (_LONG, (height,)), 258: (_SHORT, (16,)), 259: (_SHORT, (1,)),
        262: (_SHORT, (32803,)), 273: (_LONG, (sensor_at,)), 277: (_SHORT, (1,)), 278: (_LONG, (height,)),
        279: (_LONG, (len(sensor),)), 284: (_SHORT, (1,)), 33421: (_SHORT, (2, 2)), 33422: (_BYTE, (0, 1, 1, 2)),
        50717: (_LONG, (65535,)),
    }  # fmt: skip
    if preview is None:
        first_at, last = raw_at, _directory(raw_at, named | sensed)
    else:
        raw = _directory(raw_at, sensed)
        first_at = raw_at + len(raw)
        pictured = {
            254: (_LONG, (1,)), 256: (_LONG, (preview.width,)), 257: (_LONG, (preview.height,)),
            258: (_SHORT, (8, 8, 8)), 259: (_SHORT, (7,)), 262: (_SHORT, (6,)), 273: (_LONG, (8,)), 277: (_SHORT, (3,)),
            278: (_LONG, (preview.height,)), 279: (_LONG, (len(shown),)), 330: (_LONG, (raw_at,)),
        }  # fmt: skip
        last = raw + _directory(first_at, named | pictured)
    return b"II*\0" + struct.pack("<I", first_at) + shown + bytes(len(shown) % 2) + bytes(sensor) + last
