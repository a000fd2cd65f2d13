"""Pictures in HDR, wide gamuts, CMYK and 16 bits look in sRGB as the standards say."""

from __future__ import annotations

import io
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image, ImageCms

from app.formats import find_format
from app.media.processing_results import CropBox
from app.media.processor import MediaProcessor
from tests.media.colour_reference import srgb_of
from tests.media.icc_profiles import build_cmyk_profile
from tests.media.photo_files import Colour, assert_corners, encode_image, encode_linear_dng, make_quarters, read_corners
from tests.media.tiff_files import TiffPage, encode_tiff
from tests.real.archive_programs import program

HDR_CODES = ((60, 40, 30), (140, 130, 120), (150, 150, 150), (190, 186, 170))
"""In PQ about 1, 60, 210 and 1100 cd/m2."""

WIDE_CODES = ((200, 60, 50), (70, 160, 60), (50, 60, 190), (128, 128, 128))

BT_2020, DISPLAY_P3, SRGB, PQ, HLG = 9, 12, 13, 16, 18
_FFMPEG_NAMES = {
    BT_2020: "bt2020", DISPLAY_P3: "smpte432", SRGB: "iec61966-2-1", PQ: "smpte2084", HLG: "arib-std-b67",
}  # fmt: skip


def encode_heic(image: Image.Image, primaries: int, transfer: int) -> bytes:
    """In ten bits a channel, as cameras do."""
    deep = b"".join(bytes((value, value)) for value in image.tobytes())
    matrix = BT_2020 if primaries == BT_2020 else 1
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", image.size, deep).save(
        buffer, quality=-1, chroma=444, full_range_flag=1,
        color_primaries=primaries, transfer_characteristics=transfer, matrix_coefficients=matrix,
    )  # fmt: skip
    return buffer.getvalue()


def encode_avif(image: Image.Image, primaries: int, transfer: int, **metadata: bytes) -> bytes:
    """Pillow's encoder writes sRGB into the box; two of its fields are changed afterwards."""
    data = encode_image(image, "AVIF", quality=100, subsampling="4:4:4", speed=10, **metadata)
    fields = data.index(b"colrnclx") + 8
    return data[:fields] + bytes((0, primaries, 0, transfer)) + data[fields + 4 :]


def encode_jxl(image: Image.Image, primaries: int, transfer: int) -> bytes:
    colours = f"setparams=color_primaries={_FFMPEG_NAMES[primaries]}:color_trc={_FFMPEG_NAMES[transfer]}"
    command = [
        program("ffmpeg"), "-v", "error", "-f", "png_pipe", "-i", "-", "-vf", colours, "-pix_fmt", "rgb24", "-c:v", "libjxl",
        "-distance", "0", "-f", "image2pipe", "-",
    ]  # fmt: skip
    return subprocess.run(command, input=encode_image(image, "PNG"), check=True, timeout=60, capture_output=True).stdout


def encode_png(
    image: Image.Image, primaries: int, transfer: int, *, is_full: bool = True, icc_profile: bytes | None = None
) -> bytes:
    data = encode_image(image, "PNG", icc_profile=icc_profile)
    content = b"cICP" + bytes((primaries, transfer, 0, is_full))
    chunk = struct.pack(">I", 4) + content + struct.pack(">I", zlib.crc32(content))
    return data[:33] + chunk + data[33:]


ENCODERS: dict[str, Callable[[Image.Image, int, int], bytes]] = {
    ".heic": encode_heic,
    ".avif": encode_avif,
    ".jxl": encode_jxl,
    ".png": encode_png,
}


async def assert_rendered(
    processor: MediaProcessor, folder: Path, data: bytes, extension: str, expected: tuple[Colour, ...], within: int = 3
) -> None:
    source = folder.parent / f"source{extension}"
    source.write_bytes(data)
    format = find_format(source.name)
    assert format is not None
    result = await processor.make_images(source, format, folder)
    for product in result.files:
        with Image.open(product.path) as image:
            assert "icc_profile" not in image.info
            assert_corners(image, expected, within)


@pytest.mark.parametrize("extension", ENCODERS)
@pytest.mark.parametrize(
    ("codes", "primaries", "transfer"),
    [(HDR_CODES, BT_2020, PQ), (HDR_CODES, BT_2020, HLG), (HDR_CODES, DISPLAY_P3, PQ), (WIDE_CODES, DISPLAY_P3, SRGB)],
    ids=["pq", "hlg", "pq-p3", "p3"],
)
async def test_code_points(
    processor: MediaProcessor,
    folder: Path,
    extension: str,
    codes: tuple[Colour, ...],
    primaries: int,
    transfer: int,
) -> None:
    data = ENCODERS[extension](make_quarters(160, 120, codes), primaries, transfer)
    with Image.open(io.BytesIO(data)) as image:  # the codec's own rounding counts twice where the curve is steep
        assert_corners(image, codes)
        expected = tuple(srgb_of(code, primaries, transfer) for code in read_corners(image))
    await assert_rendered(processor, folder, data, extension, expected)


async def test_code_points_are_not_taken_from_another_item(processor: MediaProcessor, folder: Path) -> None:
    """A gain map has code points of its own. Here the primary item loses its association with them."""
    data = encode_avif(make_quarters(160, 120, WIDE_CODES), BT_2020, PQ)
    at = data.index(b"ipma") + 8
    count = data[at + 6]
    numbers = data[at + 7 : at + 7 + count]
    boxes = [data.index(kind) for kind in (b"ispe", b"pixi", b"av1C", b"colr")]
    colour = sorted(boxes).index(boxes[-1]) + 1
    assert colour in numbers
    changed = bytes(numbers[0] if number == colour else number for number in numbers)
    unassociated = data[: at + 7] + changed + data[at + 7 + count :]
    await assert_rendered(processor, folder, unassociated, ".avif", WIDE_CODES)


async def test_person_thumbnails_of_hdr(processor: MediaProcessor, folder: Path) -> None:
    source = folder.parent / "source.heic"
    source.write_bytes(encode_heic(make_quarters(160, 120, HDR_CODES), BT_2020, PQ))
    format = find_format(source.name)
    assert format is not None
    made = await processor.make_person_thumbnail(source, format, CropBox(0, 0, 30, 30, 160, 120), folder)
    with Image.open(made.path) as image:
        assert_corners(image, (srgb_of(HDR_CODES[0], BT_2020, PQ),) * 4)


INKS: dict[tuple[int, int, int, int], tuple[int, int, int]] = {
    (0, 0, 0, 0): (255, 255, 255),
    (1, 0, 0, 0): (0, 150, 200),
    (0, 1, 0, 0): (200, 40, 120),
    (0, 0, 1, 0): (240, 220, 60),
    (0, 0, 0, 1): (50, 48, 46),
}
"""What the inks of `build_cmyk_profile` look like. Without a profile they would be pure colours."""

INKED = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1), (0, 0, 0, 0))


def make_inked() -> Image.Image:
    channels = [make_quarters(160, 120, tuple((255 * inks[place],) * 3 for inks in INKED)) for place in range(4)]
    return Image.merge("CMYK", [channel.convert("L") for channel in channels])


@pytest.mark.parametrize(("format", "extension"), [("JPEG", ".jpg"), ("TIFF", ".tif")])
async def test_cmyk(processor: MediaProcessor, folder: Path, format: str, extension: str) -> None:
    """The JPEG has Adobe's marker and so inverted values."""
    options = {"quality": 97} if format == "JPEG" else {}
    data = encode_image(make_inked(), format, icc_profile=build_cmyk_profile(INKS), **options)
    await assert_rendered(processor, folder, data, extension, tuple(INKS[inks] for inks in INKED))
    plain = encode_image(make_inked(), format, **options)
    shown = ((0, 255, 255), (255, 0, 255), (0, 0, 0), (255, 255, 255))
    await assert_rendered(processor, folder, plain, extension, shown)


def encode_deep_png(image: Image.Image) -> bytes:
    """16 bits a channel."""
    row = image.width * len(image.getbands())
    pixels = image.tobytes()
    rows = (pixels[at : at + row] for at in range(0, len(pixels), row))
    data = b"".join(b"\0" + b"".join(bytes((value, 255 - value)) for value in each) for each in rows)
    kind = {"L": 0, "RGB": 2, "RGBA": 6}[image.mode]

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBB3x", *image.size, 16, kind)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
async def test_deep_png(processor: MediaProcessor, folder: Path, mode: str) -> None:
    image = make_quarters(160, 120).convert(mode)
    await assert_rendered(processor, folder, encode_deep_png(image), ".png", read_corners(image))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("order", ["<", ">"])
async def test_deep_tiff(processor: MediaProcessor, folder: Path, mode: str, order: str) -> None:
    image = make_quarters(160, 120).convert(mode)
    data = encode_tiff([TiffPage(image, bits=16)], order=order)
    await assert_rendered(processor, folder, data, ".tif", read_corners(image))


async def test_linear_dng(processor: MediaProcessor, folder: Path) -> None:
    """The white in the middle keeps LibRaw from brightening the picture."""
    image = make_quarters(320, 240)
    image.paste((255, 255, 255), (135, 95, 185, 145))
    await assert_rendered(processor, folder, encode_linear_dng(image), ".dng", read_corners(image))


async def test_code_points_of_a_png_go_before_its_profile(processor: MediaProcessor, folder: Path) -> None:
    """PNG, third edition, section 4.3. The profile alone would change no colour."""
    image = make_quarters(160, 120, HDR_CODES)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    expected = tuple(srgb_of(code, BT_2020, PQ) for code in HDR_CODES)
    await assert_rendered(processor, folder, encode_png(image, BT_2020, PQ, icc_profile=profile), ".png", expected)
    narrow = encode_png(image, BT_2020, PQ, is_full=False)
    await assert_rendered(processor, folder, narrow, ".png", HDR_CODES)
