"""JPEGs that lack their last bytes get their picture, and those that lack a part of it do not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from app.formats import find_format
from app.media.errors import DecodeFailed
from app.media.processor import MediaProcessor
from tests.media.photo_files import encode_jpeg, make_quarters

FORMS: dict[str, dict[str, object]] = {
    "baseline": {},
    "subsampled": {"subsampling": 2},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "thumbnail": {
        "progressive": True,
        "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + encode_jpeg(make_quarters(64, 48)),
    },
}


SIZE = (480, 360)


def make_detailed() -> Image.Image:
    """Quarters with noise, so that all of the picture takes part in the compressed data."""
    noise = Image.frombytes("L", SIZE, random.Random(1).randbytes(SIZE[0] * SIZE[1]))
    return Image.blend(make_quarters(*SIZE), noise.convert("RGB"), 0.2)


async def render(
    processor: MediaProcessor, folder: Path, data: bytes, extension: str = ".jpg"
) -> tuple[Image.Image, str | None]:
    """The largest picture that is made, and the damage that is reported."""
    source = folder.parent / f"source{extension}"
    source.write_bytes(data)
    format = find_format(source.name)
    assert format is not None
    result = await processor.make_images(source, format, folder)
    with Image.open(result.files[-1 if len(result.files) == 3 else 0].path) as image:
        return image.convert("RGB"), result.damage


@pytest.mark.parametrize(("form", "extension"), [*((form, ".jpg") for form in FORMS), ("baseline", ".jpe")])
async def test_the_last_bytes_are_missing(processor: MediaProcessor, folder: Path, form: str, extension: str) -> None:
    data = encode_jpeg(make_detailed(), **FORMS[form])
    whole, damage = await render(processor, folder, data, extension)
    assert damage is None
    for missing in (2, 3, 60):
        shown, damage = await render(processor, folder, data[:-missing], extension)
        assert damage is not None
        assert max(ImageStat.Stat(ImageChops.difference(whole, shown)).mean) < 0.5, missing


@pytest.mark.parametrize("form", FORMS)
async def test_a_part_of_the_picture_is_missing(processor: MediaProcessor, folder: Path, form: str) -> None:
    data = encode_jpeg(make_detailed(), **FORMS[form])
    for kept in (0.9 if "progressive" not in FORMS[form] else 0.6, 0.3):
        with pytest.raises(DecodeFailed):
            await render(processor, folder, data[: round(len(data) * kept)])
