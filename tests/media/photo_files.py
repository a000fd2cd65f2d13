"""Creates photos with a colour in each quarter, in every format, and compares the quarters of derivatives."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pillow_heif
import pillow_jxl  # noqa: F401 - registers the format with Pillow
from PIL import Image, ImageStat

pillow_heif.register_heif_opener()

RED, GREEN, BLUE, GREY = (200, 40, 40), (40, 160, 60), (50, 60, 190), (128, 128, 128)
CORNERS = (RED, GREEN, BLUE, GREY)
"""Colours of the quarters: top left, top right, bottom left, bottom right."""

Colour = tuple[int, ...]


def make_quarters(width: int = 640, height: int = 480, colours: tuple[Colour, ...] = CORNERS) -> Image.Image:
    """An image of four quarters of one colour each."""
    image = Image.new("RGB", (width, height))
    for quarter, colour in enumerate(colours):
        left, top = (quarter % 2) * (width // 2), (quarter // 2) * (height // 2)
        image.paste(colour, (left, top, left + (width + 1) // 2, top + (height + 1) // 2))
    return image


def read_corners(image: Image.Image) -> tuple[Colour, ...]:
    """Mean colours of the quarters' middles."""
    plain = image.convert("RGB")
    width, height = plain.size
    means = []
    for quarter in range(4):
        left, top = (quarter % 2) * width / 2 + width / 8, (quarter // 2) * height / 2 + height / 8
        patch = plain.crop((round(left), round(top), round(left + width / 4), round(top + height / 4)))
        means.append(tuple(round(mean) for mean in ImageStat.Stat(patch).mean))
    return tuple(means)


def assert_corners(image: Image.Image, expected: tuple[Colour, ...] = CORNERS, within: int = 3) -> None:
    actual = read_corners(image)
    distance = max(
        abs(a - b) for have, want in zip(actual, expected, strict=True) for a, b in zip(have, want, strict=True)
    )
    assert distance <= within, f"{actual} for {expected}"


@dataclass(frozen=True, slots=True)
class ExpectedCorners:
    """A format and its encoder. `within` is the change of a colour channel (of 255) that the format itself causes."""

    extension: str
    write: Callable[[Image.Image, Path], None]
    within: int = 3


def _saved(format: str, **options: object) -> Callable[[Image.Image, Path], None]:
    return lambda image, path: image.save(path, format, **options)


def _gif(image: Image.Image, path: Path) -> None:
    image.quantize(8).save(path, "GIF")


def _psd(image: Image.Image, path: Path) -> None:
    """Photoshop's format, without layers."""
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
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


_SHORT, _LONG, _RATIONAL, _SIGNED_RATIONAL, _BYTE, _ASCII = 3, 4, 5, 10, 1, 2
_WIDTHS = {_SHORT: "H", _LONG: "I", _RATIONAL: "I", _SIGNED_RATIONAL: "i", _BYTE: "B"}

_XYZ_TO_SRGB = (
    32406, 10000, -15372, 10000, -4986, 10000, -9689, 10000, 18758, 10000, 415, 10000, 557, 10000, -2040, 10000, 10570, 10000,
)  # fmt: skip
"""The matrix from XYZ to the camera's colours, which are sRGB's here."""


def _directory(offset: int, entries: dict[int, tuple[int, tuple[int, ...] | bytes]]) -> bytes:
    """A TIFF directory at `offset`, followed by its values."""
    body = struct.pack("<H", len(entries))
    values = b""
    values_offset = offset + 2 + 12 * len(entries) + 4
    for tag, (kind, value) in sorted(entries.items()):
        data = value if isinstance(value, bytes) else struct.pack(f"<{len(value)}{_WIDTHS[kind]}", *value)
        count = len(value) // (2 if kind in (_RATIONAL, _SIGNED_RATIONAL) else 1)
        if len(data) <= 4:
            body += struct.pack("<HHI4s", tag, kind, count, data)
        else:
            body += struct.pack("<HHII", tag, kind, count, values_offset + len(values))
            values += data + bytes(len(data) % 2)
    return body + bytes(4) + values


def encode_dng(image: Image.Image, *, preview: Image.Image | None = None, orientation: int = 1) -> bytes:
    """A DNG 1.4 file: sensor data of the image behind a Bayer filter, and optionally a JPEG preview."""
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
    preview_jpeg = encode_jpeg(preview) if preview is not None else b""
    sensor_offset = 8 + len(preview_jpeg) + len(preview_jpeg) % 2
    raw_offset = sensor_offset + len(sensor)
    common_tags = {
        271: (_ASCII, b"Camera Works\0"),
        272: (_ASCII, b"Model One\0"),
        274: (_SHORT, (orientation,)),
        50706: (_BYTE, (1, 4, 0, 0)),
        50708: (_ASCII, b"Camera Works Model One\0"),
        50721: (_SIGNED_RATIONAL, _XYZ_TO_SRGB),
        50728: (_RATIONAL, (1, 1, 1, 1, 1, 1)),
        50778: (_SHORT, (21,)),
    }  # fmt: skip
    sensor_tags = {
        254: (_LONG, (0,)), 256: (_LONG, (width,)), 257: (_LONG, (height,)), 258: (_SHORT, (16,)), 259: (_SHORT, (1,)),
        262: (_SHORT, (32803,)), 273: (_LONG, (sensor_offset,)), 277: (_SHORT, (1,)), 278: (_LONG, (height,)),
        279: (_LONG, (len(sensor),)), 284: (_SHORT, (1,)), 33421: (_SHORT, (2, 2)), 33422: (_BYTE, (0, 1, 1, 2)),
        50717: (_LONG, (65535,)),
    }  # fmt: skip
    if preview is None:
        first_offset, last = raw_offset, _directory(raw_offset, common_tags | sensor_tags)
    else:
        raw = _directory(raw_offset, sensor_tags)
        first_offset = raw_offset + len(raw)
        preview_tags = {
            254: (_LONG, (1,)), 256: (_LONG, (preview.width,)), 257: (_LONG, (preview.height,)),
            258: (_SHORT, (8, 8, 8)), 259: (_SHORT, (7,)), 262: (_SHORT, (6,)), 273: (_LONG, (8,)), 277: (_SHORT, (3,)),
            278: (_LONG, (preview.height,)), 279: (_LONG, (len(preview_jpeg),)), 330: (_LONG, (raw_offset,)),
        }  # fmt: skip
        last = raw + _directory(first_offset, common_tags | preview_tags)
    return (
        b"II*\0" + struct.pack("<I", first_offset) + preview_jpeg + bytes(len(preview_jpeg) % 2) + bytes(sensor) + last
    )


def encode_linear_dng(image: Image.Image) -> bytes:
    """A DNG 1.4 file of demosaiced pixels in linear light, as merges of several exposures and phones write them."""
    linear = [round(_decode_srgb(value / 255) * 65535) for value in range(256)]
    pixels = struct.pack(f"<{image.width * image.height * 3}H", *(linear[value] for value in image.tobytes()))
    tags = {
        254: (_LONG, (0,)), 256: (_LONG, (image.width,)), 257: (_LONG, (image.height,)), 258: (_SHORT, (16, 16, 16)),
        259: (_SHORT, (1,)), 262: (_SHORT, (34892,)), 271: (_ASCII, b"Camera Works\0"), 272: (_ASCII, b"Model One\0"),
        273: (_LONG, (8,)), 274: (_SHORT, (1,)), 277: (_SHORT, (3,)), 278: (_LONG, (image.height,)),
        279: (_LONG, (len(pixels),)), 284: (_SHORT, (1,)), 50706: (_BYTE, (1, 4, 0, 0)), 50708: (_ASCII, b"Camera Works Model One\0"),
        50717: (_LONG, (65535, 65535, 65535)), 50721: (_SIGNED_RATIONAL, _XYZ_TO_SRGB),
        50728: (_RATIONAL, (1, 1, 1, 1, 1, 1)), 50778: (_SHORT, (21,)),
    }  # fmt: skip
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + _directory(8 + len(pixels), tags)


def _decode_srgb(signal: float) -> float:
    return signal / 12.92 if signal <= 0.04045 else ((signal + 0.055) / 1.055) ** 2.4
