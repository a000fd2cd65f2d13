"""Sidecars: encodings, and files that are no sidecar. Whatever is wrong with one, the photo's own metadata is read."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from app.formats import MAX_SIDECAR_BYTES, MediaFormat, find_format
from app.media.metadata.sidecar_files import SidecarError, read_sidecar
from app.media.processor import MediaProcessor
from tests.media import photo_files
from tests.media.xmp_files import make_xmp

TEXT = make_xmp({"xmp:Rating": "4", "exif:DateTimeOriginal": "2024-07-21T23:39:24+02:00"}, description="Straße")
PACKET = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>' + TEXT + b'<?xpacket end="w"?>'


def recoded(encoding: str, data: bytes = TEXT) -> bytes:
    return data.decode().encode(encoding)


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        PACKET,
        codecs.BOM_UTF8 + TEXT,
        b" \r\n" + TEXT + b"\0\0",
        b'<?xml version="1.0" encoding="UTF-8"?>\n<!-- written by hand -->' + TEXT,
        TEXT[TEXT.index(b"<rdf:RDF") : TEXT.index(b"</x:xmpmeta>")],
        recoded("utf-16"),
        recoded("utf-16-le"),
        recoded("utf-16-be"),
        codecs.BOM_UTF16_BE + recoded("utf-16-be", b'<?xml version="1.0" encoding="UTF-16"?>' + PACKET),
        recoded("iso-8859-1", b'<?xml version="1.0" encoding="ISO-8859-1"?>' + TEXT),
    ],
)
def test_encodings(data: bytes, tmp_path: Path) -> None:
    sidecar = tmp_path / "photo.xmp"
    sidecar.write_bytes(data)
    assert read_sidecar(sidecar).values == {
        "Xmp.xmp.Rating": "4",
        "Xmp.exif.DateTimeOriginal": "2024-07-21T23:39:24+02:00",
        "Xmp.dc.description": "Straße",
    }


def make_bomb() -> bytes:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    return f'<!DOCTYPE a [<!ENTITY e0 "xxxxxxxxxx">{levels}]>'.encode() + TEXT.replace(b"Anders", b"&e11;")


BROKEN = {
    "empty": (b"", "no well-formed XML"),
    "cut short": (TEXT[:-40], "no well-formed XML"),
    "a photo": (photo_files.encode_jpeg(photo_files.make_quarters(16, 16)), "no encoding that can be read"),
    "an odd byte of UTF-16": (recoded("utf-16")[:-1], "no encoding that can be read"),
    "other XML": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "no XMP"),
    "an entity bomb": (make_bomb(), "document type"),
    "a file of the system": (
        TEXT.replace(b"<x:", b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x:', 1).replace(
            b"Anders", b"&f;"
        ),
        "document type",
    ),
    "too large": (TEXT + b" " * MAX_SIDECAR_BYTES, "larger than 16777216 bytes"),
    "an unknown encoding": (b'<?xml version="1.0" encoding="x-nothing"?>' + TEXT, "no encoding that can be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_sidecar(name: str, tmp_path: Path) -> None:
    data, reason = BROKEN[name]
    sidecar = tmp_path / "photo.xmp"
    sidecar.write_bytes(data)
    with pytest.raises(SidecarError, match=reason):
        read_sidecar(sidecar)


def test_a_missing_sidecar(tmp_path: Path) -> None:
    with pytest.raises(SidecarError, match="cannot be read: No such file"):
        read_sidecar(tmp_path / "photo.xmp")


async def test_a_sidecar_is_read_in_the_sandbox(processor: MediaProcessor, folder: Path) -> None:
    """The photo is given by its descriptor, as those of libraries are."""
    source, sidecar = folder / "photo.jpg", folder / "photo.xmp"
    source.write_bytes(photo_files.encode_jpeg(photo_files.make_quarters(16, 16)))
    sidecar.write_bytes(recoded("utf-16"))
    with source.open("rb") as photo:
        read = await processor.read_metadata(Path(f"/proc/self/fd/{photo.fileno()}"), named(".jpg"), sidecar)
    assert (read.metadata.rating, read.metadata.description, read.metadata.time_zone) == (4, "Straße", "UTC+2")
    assert (read.metadata.exif_image_width, read.sidecar_error) == (16, None)


async def test_a_broken_sidecar_is_no_fault_of_the_photo(processor: MediaProcessor, folder: Path) -> None:
    source, sidecar = folder / "photo.jpg", folder / "photo.xmp"
    source.write_bytes(photo_files.encode_jpeg(photo_files.make_quarters(16, 16)))
    deep = TEXT.replace(b"Anders", b"<a>" * 100_000 + b"</a>" * 100_000)
    for data in (BROKEN["an entity bomb"][0], deep):
        sidecar.write_bytes(data)
        read = await processor.read_metadata(source, named(".jpg"), sidecar)
        assert read.metadata.exif_image_width == 16
        assert read.metadata.rating is None
        assert read.sidecar_error


def named(extension: str) -> MediaFormat:
    format = find_format(f"photo{extension}")
    assert format is not None
    return format
