"""Detects a file's format by its first bytes. Pure. The name is used only where the bytes are ambiguous (most camera RAW is TIFF)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from app.formats import RAW_EXTENSIONS, MediaFormat, MediaKind

SIGNATURE_BYTES = 64 * 1024
"""Bytes of a file's beginning that are examined."""


class DetectedFormat(Enum):
    """Each value is the name that Pillow (images) or ffmpeg (videos) has for the format."""

    JPEG = "JPEG"
    PNG = "PNG"
    GIF = "GIF"
    WEBP = "WEBP"
    AVIF = "AVIF"
    HEIF = "HEIF"
    TIFF = "TIFF"
    BMP = "BMP"
    JPEG_2000 = "JPEG2000"
    JPEG_XL = "JXL"
    PSD = "PSD"
    RAW = "raw"
    PPM = "PPM"
    """Frames that ffmpeg writes for posters; not accepted from users."""

    MOV = "mov"
    MATROSKA = "matroska"
    AVI = "avi"
    MPEG_TS = "mpegts"
    MPEG_PS = "mpeg"
    MPEG_VIDEO = "mpegvideo"
    FLV = "flv"
    ASF = "asf"
    MXF = "mxf"


@dataclass(frozen=True, slots=True)
class _Magic:
    """`pattern` is matched at the first byte."""

    pattern: re.Pattern[bytes]
    content: DetectedFormat


def _magic(pattern: bytes, content: DetectedFormat) -> _Magic:
    return _Magic(re.compile(pattern, re.DOTALL), content)


_IMAGES = (
    _magic(rb"\xff\xd8\xff", DetectedFormat.JPEG),
    _magic(rb"\x89PNG\r\n\x1a\n", DetectedFormat.PNG),
    _magic(rb"GIF8[79]a", DetectedFormat.GIF),
    _magic(rb"RIFF....WEBP", DetectedFormat.WEBP),
    _magic(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", DetectedFormat.JPEG_XL),
    _magic(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", DetectedFormat.JPEG_2000),
    _magic(rb"8BPS", DetectedFormat.PSD),
    _magic(rb"BM", DetectedFormat.BMP),
    _magic(rb"FUJIFILMCCD-RAW|FOVb|\0MR[MI]|II\x1a\0\0\0HEAPCCDR|IIR[OS]|MMOR|IIU\0", DetectedFormat.RAW),
    _magic(rb"II\*\0|MM\0\*|II\+\0|MM\0\+", DetectedFormat.TIFF),
)

_VIDEOS = (
    _magic(rb"....(?:moov|mdat|wide|free|skip|pnot|uuid)", DetectedFormat.MOV),
    _magic(rb"\x1a\x45\xdf\xa3", DetectedFormat.MATROSKA),
    _magic(rb"RIFF....AVI[ X]", DetectedFormat.AVI),
    _magic(rb"FLV\x01", DetectedFormat.FLV),
    _magic(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", DetectedFormat.ASF),
    _magic(rb"\0\0\x01\xba", DetectedFormat.MPEG_PS),
    _magic(rb"\0\0\x01\xb3", DetectedFormat.MPEG_VIDEO),
    _magic(rb".{0,65000}?\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02", DetectedFormat.MXF),
    # 188 bytes a packet, 192 with a leading time stamp, 204 with a trailing checksum. The file may begin within a packet.
    _magic(
        rb".{0,1024}?(?:G.{187}G.{187}G.{187}G|G.{191}G.{191}G.{191}G|G.{203}G.{203}G.{203}G)", DetectedFormat.MPEG_TS
    ),
)

_VIDEO_CONTENTS = frozenset({magic.content for magic in _VIDEOS})

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_RAW_BRANDS = frozenset({b"crx "})


def detect_by_signature(head: bytes, format: MediaFormat) -> DetectedFormat | None:
    """The format of a file that begins with `head` and has a name of `format`; None for a format that is not accepted.

    The bytes decide, within the kind (photo, video) of the name: None for a video under a photo's name and vice versa, because each kind
    has its own processing.
    """
    if head[4:8] == b"ftyp":
        content = _detect_by_brands(head)
    else:
        magics = _IMAGES if format.kind is MediaKind.IMAGE else _VIDEOS
        content = next((magic.content for magic in magics if magic.pattern.match(head)), None)
    if format.extension in RAW_EXTENSIONS and content in (None, DetectedFormat.TIFF):
        return DetectedFormat.RAW
    if content is not None and (content in _VIDEO_CONTENTS) != (format.kind is MediaKind.VIDEO):
        return None
    return content


def _detect_by_brands(head: bytes) -> DetectedFormat:
    """ISO/IEC 14496-12 section 4.3: the major brand, then the compatible ones."""
    size = int.from_bytes(head[:4], "big")
    names = head[8:12] + head[16 : min(size, 512)]
    brands = [names[at : at + 4] for at in range(0, len(names), 4)]
    if _RAW_BRANDS & set(brands[:1]):
        return DetectedFormat.RAW
    if _AVIF_BRANDS & set(brands):
        return DetectedFormat.AVIF
    if _HEIF_BRANDS & set(brands):
        return DetectedFormat.HEIF
    return DetectedFormat.MOV
