"""Pictures in HDR, wide gamuts, CMYK and 16 bits look in sRGB as the standards say."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image

from app.formats import find_format
from app.media.processing_results import CropBox
from app.media.processor import MediaProcessor
from tests.media.colour_reference import srgb_of
from tests.media.photo_files import Colour, assert_corners, encode_image, make_quarters, read_corners
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


def encode_avif(image: Image.Image, primaries: int, transfer: int) -> bytes:
    """Pillow's encoder writes sRGB into the box; two of its fields are changed afterwards."""
    data = encode_image(image, "AVIF", quality=100, subsampling="4:4:4", speed=10)
    fields = data.index(b"colrnclx") + 8
    return data[:fields] + bytes((0, primaries, 0, transfer)) + data[fields + 4 :]


def encode_jxl(image: Image.Image, primaries: int, transfer: int) -> bytes:
    colours = f"setparams=color_primaries={_FFMPEG_NAMES[primaries]}:color_trc={_FFMPEG_NAMES[transfer]}"
    command = [
        program("ffmpeg"), "-v", "error", "-f", "png_pipe", "-i", "-", "-vf", colours, "-pix_fmt", "rgb24", "-c:v", "libjxl",
        "-distance", "0", "-f", "image2pipe", "-",
    ]  # fmt: skip
    return subprocess.run(command, input=encode_image(image, "PNG"), check=True, timeout=60, capture_output=True).stdout


ENCODERS: dict[str, Callable[[Image.Image, int, int], bytes]] = {
    ".heic": encode_heic,
    ".avif": encode_avif,
    ".jxl": encode_jxl,
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
