"""Files with damaged boxes, records and directories: what is found lies in the file, and nothing but a `MediaError` is raised."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

from app.media.containers.heif_items import read_heif_items
from app.media.containers.heif_properties import read_nclx
from app.media.errors import MediaError
from app.media.images.motion_photos import locate_motion_video
from app.media.images.tiff_pages import choose_page, read_tiff_pages
from tests.media.photo_files import make_quarters
from tests.media.test_colours import BT_2020, PQ, encode_avif
from tests.media.tiff_files import TiffPage, encode_tiff

INPUTS = Path(__file__).parents[1] / "inputs"
NUMBERS = (bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1", bytes(7) + b"\1", b"\x7f" + b"\xff" * 7)


def damage(data: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 2, 5, 20))):
        at = chance.randrange(len(damaged))
        number = chance.choice(NUMBERS)
        change = chance.randrange(4)
        if change == 0:
            damaged[at] = chance.randrange(256)
        elif change == 1:
            damaged[at : at + len(number)] = number
        elif change == 2:
            del damaged[at : at + chance.randrange(1, 40)]
        else:
            damaged[at:at] = damaged[: chance.randrange(1, 60)]
    return bytes(damaged)


def test_damaged_motion_photos(tmp_path: Path, seed: int, *, soak: bool) -> None:
    chance = random.Random(seed)
    wholes = {INPUTS / name for name in ("headline.jpg", "free-first.jpg", "trailing.jpg", "heic-appended.heic")}
    contents = [(path.read_bytes(), "JPEG" if path.suffix == ".jpg" else "HEIF") for path in sorted(wholes)]
    source = tmp_path / "damaged"
    for _ in range(50_000 if soak else 300):
        whole, content = chance.choice(contents)
        data = damage(whole, chance)
        source.write_bytes(data)
        found = locate_motion_video(str(source), content, 10**8)
        assert not found or 0 < found["first"] <= found["last"] < len(data)


def test_damaged_directories(tmp_path: Path, seed: int, *, soak: bool) -> None:
    chance = random.Random(seed)
    child = TiffPage(make_quarters(30, 20), 0)
    pages = [TiffPage(make_quarters(20, 16), 1, children=[child, child]), TiffPage(make_quarters(10, 10))]
    wholes = [encode_tiff(pages, big=big) for big in (False, True)]
    source = tmp_path / "damaged"
    for _ in range(50_000 if soak else 300):
        source.write_bytes(damage(chance.choice(wholes), chance))
        with suppress(MediaError):
            choose_page(read_tiff_pages(source, 1000))


def test_damaged_items(tmp_path: Path, seed: int, *, soak: bool) -> None:
    chance = random.Random(seed)
    whole = encode_avif(make_quarters(64, 48), BT_2020, PQ, xmp=b"<x/>", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    source = tmp_path / "damaged"
    for _ in range(50_000 if soak else 300):
        source.write_bytes(damage(whole, chance))
        read_nclx(source)
        read_heif_items(source)
