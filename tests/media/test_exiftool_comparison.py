"""Metadata of files that exiftool writes is what exiftool reads, in every format; and nothing that it can write makes reading fail."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app.formats import find_format
from app.media.metadata.media_metadata import MediaMetadata
from app.media.processor import MediaProcessor
from tests.media.photo_files import FORMATS, encode_dng, make_quarters

EXTENSIONS = (".jpg", ".png", ".webp", ".tif", ".heic", ".avif", ".jxl", ".dng", ".psd", ".jp2")
SECONDS = 120

EXIF = {
    "IFD0:Make": "Camera Works",
    "IFD0:Model": "Model One",
    "IFD0:ImageDescription": "Straße am Abend",
    "IFD0:ModifyDate": "2024:06:01 10:00:00",
    "ExifIFD:DateTimeOriginal": "2024:05:31 18:30:15",
    "ExifIFD:SubSecTimeOriginal": "25",
    "ExifIFD:OffsetTimeOriginal": "+02:00",
    "ExifIFD:ExposureTime": "1/250",
    "ExifIFD:FNumber": "1.8",
    "ExifIFD:ISO": "400",
    "ExifIFD:FocalLength": "50",
    "ExifIFD:LensModel": "50mm F1.8",
    "GPS:GPSLatitude": "33.8569",
    "GPS:GPSLatitudeRef": "S",
    "GPS:GPSLongitude": "151.2153",
    "GPS:GPSLongitudeRef": "E",
}
XMP = {
    "XMP-tiff:Make": "Camera Works",
    "XMP-tiff:Model": "Model Two",
    "XMP-dc:Description": "Ein Café",
    "XMP-xmp:Rating": "4",
    "XMP-exif:DateTimeOriginal": "2024:05:31 18:30:15.25+02:00",
    "XMP-exif:ExposureTime": "2.5",
    "XMP-exif:FNumber": "5.6",
    "XMP-exif:ISO": "800",
    "XMP-exif:FocalLength": "85",
    "XMP-exif:GPSLatitude": "52.5186111",
    "XMP-exif:GPSLongitude": "-13.4102778",
    "XMP-GPano:ProjectionType": "equirectangular",
}
IPTC = {
    "IPTC:DateCreated": "2024:05:31",
    "IPTC:TimeCreated": "18:30:15+02:00",
    "IPTC:Caption-Abstract": "Ein Café",
    "IPTC:CodedCharacterSet": "UTF8",
}
CORPUS = {"exif": (EXIF, EXTENSIONS), "xmp": (XMP, EXTENSIONS), "iptc": (IPTC, (".jpg", ".tif", ".psd"))}


def exiftool(arguments: Sequence[str], folder: Path) -> bytes:
    """The output of one run; `arguments` are separated by `-execute` where they are several commands."""
    program = shutil.which("exiftool")
    if program is None:
        pytest.skip("exiftool is not installed (libimage-exiftool-perl)")
    listed = folder / "arguments.txt"
    listed.write_bytes("\n".join(arguments).encode(errors="surrogateescape"))
    run = subprocess.run([program, "-@", str(listed)], capture_output=True, timeout=SECONDS, check=False)
    return run.stdout


def write_photo(path: Path) -> Path:
    if path.suffix == ".dng":
        path.write_bytes(encode_dng(make_quarters(64, 48)))
    elif path.suffix == ".jxl":  # a bare codestream has no room for metadata
        make_quarters(64, 48).save(path, "JXL", use_container=True)
    else:
        next(each for each in FORMATS if each.extension == path.suffix).write(make_quarters(64, 48), path)
    return path


async def read(processor: MediaProcessor, path: Path) -> MediaMetadata:
    format = find_format(path.name)
    assert format is not None
    return (await processor.read_metadata(path, format)).metadata


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, dict[str, Any]]:
    """The photos, with what exiftool reads."""
    folder = tmp_path_factory.mktemp("corpus")
    commands: list[str] = []
    paths: list[Path] = []
    for name, (tags, extensions) in CORPUS.items():
        written = [write_photo(folder / f"{name}{extension}") for extension in extensions]
        paths += written
        commands += [
            "-overwrite_original",
            "-codedcharacterset=utf8",
            *(f"-{tag}={value}" for tag, value in tags.items()),
        ]
        commands += [*map(str, written), "-execute"]
    commands += ["-json", "-n", "-use", "MWG", "-ExposureTime#", "-all", *map(str, paths)]
    output = exiftool(commands, folder).decode()
    return {Path(found["SourceFile"]): found for found in json.loads(output[output.index("[{") :])}


async def test_fields_are_those_of_exiftool(processor: MediaProcessor, corpus: dict[Path, dict[str, Any]]) -> None:
    assert len(corpus) == sum(len(extensions) for _, extensions in CORPUS.values())
    for path, theirs in corpus.items():
        ours = await read(processor, path)
        name = path.name
        plain = {
            "Make": ours.make, "Model": ours.model, "LensModel": ours.lens_model, "FNumber": ours.f_number, "ISO": ours.iso,
            "FocalLength": ours.focal_length, "Description": ours.description, "Rating": ours.rating,
        }  # fmt: skip
        for tag, value in plain.items():
            assert value == theirs.get(tag), f"{name}: {tag}"
        assert (ours.exif_image_width, ours.exif_image_height) == (theirs["ImageWidth"], theirs["ImageHeight"]), name
        for tag, value in {"GPSLatitude": ours.latitude, "GPSLongitude": ours.longitude}.items():
            assert value == pytest.approx(theirs.get(tag), abs=1e-6), f"{name}: {tag}"
        taken = ours.date_time_original
        assert taken is not None, name
        assert taken.strftime("%Y:%m:%d %H:%M:%S") == theirs["DateTimeOriginal"][:19], name
        assert ours.time_zone == "UTC+2", name
        assert (ours.projection_type or "").lower() == theirs.get("ProjectionType", ""), name


TAGS = (
    "IFD0:Make", "IFD0:Model", "IFD0:ImageDescription", "IFD0:ModifyDate", "IFD0:Orientation", "IFD0:Rating",
    "ExifIFD:DateTimeOriginal", "ExifIFD:CreateDate", "ExifIFD:SubSecTimeOriginal", "ExifIFD:OffsetTimeOriginal",
    "ExifIFD:OffsetTimeDigitized", "ExifIFD:OffsetTime", "ExifIFD:ExposureTime", "ExifIFD:FNumber", "ExifIFD:ISO",
    "ExifIFD:FocalLength", "ExifIFD:LensModel", "ExifIFD:ExifImageWidth", "GPS:GPSLatitude", "GPS:GPSLatitudeRef", "GPS:GPSLongitude",
    "GPS:GPSLongitudeRef", "GPS:GPSTimeStamp", "GPS:GPSDateStamp", "IPTC:DateCreated", "IPTC:TimeCreated", "IPTC:Caption-Abstract",
    "XMP-exif:DateTimeOriginal", "XMP-xmp:CreateDate", "XMP-photoshop:DateCreated", "XMP-xmp:Rating", "XMP-dc:Description",
    "XMP-exif:GPSLatitude", "XMP-exif:GPSLongitude", "XMP-exif:ISO", "XMP-exif:ExposureTime", "XMP-tiff:Orientation", "XMP-aux:Lens",
)  # fmt: skip


def random_value(chance: random.Random, tag: str) -> str:
    """Mostly what the tag should hold, often at the edge of what is valid."""
    year = chance.choice((0, 1, 1000, 1904, 1970, 2024, 2024, 2025, 2040, 9999))
    month, day = chance.choice((0, 1, 2, 12)), chance.choice((0, 1, 28, 31))
    clock = f"{chance.choice((0, 23, 24)):02}:{chance.choice((0, 59)):02}:{chance.choice((0, 60)):02}"
    zone = chance.choice(("", "Z", "+00:00", "+14:00", "-12:00", "+99:99", "-0300"))
    date = f"{year:04}:{month:02}:{day:02}" + chance.choice(("", f" {clock}{zone}", f" {clock}{zone}"))
    number = str(chance.choice((0, 1, -1, 0.5, 90, 65535, 2**32 - 1, 1e-9, 1e30, chance.uniform(-200, 200))))
    text = "".join(chance.choice("aäß€ \t0:+-/.,\u202e\U0001f600") for _ in range(chance.choice((0, 1, 8, 300))))
    if chance.random() < 0.2:
        return text
    if "Offset" in tag or tag.endswith("TimeCreated"):
        return clock + zone if tag.endswith("TimeCreated") else zone
    if "Date" not in tag:
        return number
    return f"2024:05:31 18:30:15{zone}" if chance.random() < 0.4 else date


async def test_nothing_that_can_be_written_makes_reading_fail(
    processor: MediaProcessor, tmp_path: Path, seed: int, *, soak: bool
) -> None:
    chance = random.Random(seed)
    count = 3000 if soak else 24
    originals = {extension: write_photo(tmp_path / f"original{extension}") for extension in EXTENSIONS}
    commands: list[str] = []
    paths: list[Path] = []
    for number in range(count):
        extension = EXTENSIONS[number % len(EXTENSIONS)]
        path = tmp_path / f"{number}{extension}"
        shutil.copyfile(originals[extension], path)
        tags = chance.sample(TAGS, chance.randrange(1, 12))
        commands += [
            "-m",
            "-n",
            "-overwrite_original",
            *(f"-{tag}={random_value(chance, tag)}" for tag in tags),
            str(path),
            "-execute",
        ]
        paths.append(path)
    exiftool(commands, tmp_path)
    dated = 0
    for path in paths:
        metadata = await read(processor, path)
        for moment in (metadata.date_time_original, metadata.modify_date):
            if moment is not None:
                dated += 1
                assert 1 <= moment.year <= 9999
                moment.astimezone(None)
        assert MediaMetadata.from_json(json.loads(json.dumps(metadata.to_json(), allow_nan=False))) == metadata
    assert dated
