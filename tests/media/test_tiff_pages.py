"""A TIFF shows its largest page, wherever it is in the file."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from PIL import Image

from app.formats import find_format
from app.media.errors import LimitExceeded
from app.media.processor import MediaProcessor
from tests.media.photo_files import BLUE, CORNERS, GREEN, GREY, RED, assert_corners, make_quarters
from tests.media.tiff_files import TiffPage, encode_tiff

FULL = make_quarters(360, 240)
REDUCED, SMALLER = Image.new("RGB", (72, 48), GREEN), Image.new("RGB", (36, 24), BLUE)
MASK = Image.new("L", (720, 480), 255)

LAYOUTS = {
    "first": [TiffPage(FULL)],
    "reduced first": [TiffPage(REDUCED, 1), TiffPage(FULL, 0)],
    "two reduced first": [TiffPage(SMALLER, 1), TiffPage(REDUCED, 1), TiffPage(FULL, 0)],
    "no types": [TiffPage(REDUCED), TiffPage(FULL)],
    "child": [TiffPage(REDUCED, 1, children=[TiffPage(FULL, 0)])],
    "second child": [TiffPage(REDUCED, 1, children=[TiffPage(SMALLER, 1), TiffPage(FULL, 0)])],
    "child of the second": [TiffPage(SMALLER, 1), TiffPage(REDUCED, 1, children=[TiffPage(FULL, 0)])],
    "reduced children": [TiffPage(FULL, 0, children=[TiffPage(REDUCED, 1), TiffPage(SMALLER, 1)])],
    "mask": [TiffPage(FULL, 0), TiffPage(MASK, 4)],
    "sensor data": [TiffPage(FULL, 0, children=[TiffPage(MASK, 0, tags={262: 32803})])],
    "equal": [TiffPage(FULL, 2), TiffPage(make_quarters(360, 240, (GREY, RED, GREEN, BLUE)), 2)],
}


async def render(processor: MediaProcessor, folder: Path, data: bytes) -> Image.Image:
    source = folder.parent / "source.tif"
    source.write_bytes(data)
    format = find_format(source.name)
    assert format is not None
    result = await processor.make_images(source, format, folder)
    with Image.open(result.files[0].path) as image:
        image.load()
    assert (result.width, result.height) == image.size
    return image


@pytest.mark.parametrize(
    ("layout", "order", "big"),
    [
        *((layout, "<", False) for layout in LAYOUTS),
        *(
            (layout, order, big)
            for layout in ("two reduced first", "second child")
            for order, big in ((">", False), ("<", True))
        ),
    ],
)
async def test_the_largest_page(processor: MediaProcessor, folder: Path, layout: str, order: str, *, big: bool) -> None:
    image = await render(processor, folder, encode_tiff(LAYOUTS[layout], big=big, order=order))
    assert image.size == (360, 240)
    assert_corners(image, CORNERS)


@pytest.mark.parametrize("page", [{}, {274: 6}])
async def test_a_child_has_the_orientation_of_the_first(
    processor: MediaProcessor, folder: Path, page: dict[int, int]
) -> None:
    upright = make_quarters(240, 360)
    child = TiffPage(upright.transpose(Image.Transpose.ROTATE_90), 0, tags=page)
    image = await render(processor, folder, encode_tiff([TiffPage(REDUCED, 1, tags={274: 6}, children=[child])]))
    assert image.size == (240, 360)
    assert_corners(image, CORNERS)


@pytest.mark.parametrize("big", [False, True])
async def test_offsets_that_lead_nowhere(processor: MediaProcessor, folder: Path, *, big: bool) -> None:
    """Those of sub-directories: the first page is shown, as without them."""
    data = encode_tiff([TiffPage(FULL, 0, children=[TiffPage(REDUCED, 1)])], big=big)
    entry = struct.pack("<HHQ" if big else "<HHI", 330, 16 if big else 4, 1)
    at = data.index(entry) + len(entry)
    width = 8 if big else 4
    for offset in (b"\xff", b"\x7f", b"\x01"):
        damaged = data[:at] + offset * width + data[at + width :]
        assert_corners(await render(processor, folder, damaged), CORNERS)


async def test_too_many_pages(processor: MediaProcessor, folder: Path) -> None:
    pages = [TiffPage(Image.new("L", (1, 1)))] * 10_001
    with pytest.raises(LimitExceeded):
        await render(processor, folder, encode_tiff(pages))
