"""Detects a file's format by its first bytes. Pure. The name is used only where the bytes are ambiguous (most camera RAW is TIFF), or are
not recognised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from app.formats import RAW_EXTENSIONS, MediaFormat, MediaKind, find_format

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
class _Detection:
    """`extension` is the usual one of files that begin so."""

    content: DetectedFormat
    extension: str


@dataclass(frozen=True, slots=True)
class _Magic:
    """`pattern` is matched at the first byte."""

    pattern: re.Pattern[bytes]
    detection: _Detection


def _magic(pattern: bytes, content: DetectedFormat, extension: str) -> _Magic:
    return _Magic(re.compile(pattern, re.DOTALL), _Detection(content, extension))


_IMAGES = (
    _magic(rb"\xff\xd8\xff", DetectedFormat.JPEG, ".jpg"),
    _magic(rb"\x89PNG\r\n\x1a\n", DetectedFormat.PNG, ".png"),
    _magic(rb"GIF8[79]a", DetectedFormat.GIF, ".gif"),
    _magic(rb"RIFF....WEBP", DetectedFormat.WEBP, ".webp"),
    _magic(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", DetectedFormat.JPEG_XL, ".jxl"),
    _magic(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n", DetectedFormat.JPEG_2000, ".jp2"),
    _magic(rb"8BPS", DetectedFormat.PSD, ".psd"),
    _magic(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", DetectedFormat.BMP, ".bmp"),
    _magic(rb"FUJIFILMCCD-RAW", DetectedFormat.RAW, ".raf"),
    _magic(rb"FOVb", DetectedFormat.RAW, ".x3f"),
    _magic(rb"\0MR[MI]", DetectedFormat.RAW, ".mrw"),
    _magic(rb"II\x1a\0\0\0HEAPCCDR", DetectedFormat.RAW, ".crw"),
    _magic(rb"IIR[OS]|MMOR", DetectedFormat.RAW, ".orf"),
    _magic(rb"IIU\0", DetectedFormat.RAW, ".rw2"),
    _magic(rb"II\*\0|MM\0\*|II\+\0|MM\0\+", DetectedFormat.TIFF, ".tif"),
)

_VIDEOS = (
    _magic(rb"....(?:moov|mdat|wide|free|skip|pnot|uuid)", DetectedFormat.MOV, ".mov"),
    _magic(rb"\x1a\x45\xdf\xa3.{0,64}?\x42\x82.webm", DetectedFormat.MATROSKA, ".webm"),
    _magic(rb"\x1a\x45\xdf\xa3", DetectedFormat.MATROSKA, ".mkv"),
    _magic(rb"RIFF....AVI[ X]", DetectedFormat.AVI, ".avi"),
    _magic(rb"FLV\x01", DetectedFormat.FLV, ".flv"),
    _magic(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", DetectedFormat.ASF, ".wmv"),
    _magic(rb"\0\0\x01\xba", DetectedFormat.MPEG_PS, ".mpg"),
    _magic(rb"\0\0\x01\xb3", DetectedFormat.MPEG_VIDEO, ".mpg"),
    _magic(rb".{0,65000}?\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02", DetectedFormat.MXF, ".mxf"),
    # 188 bytes a packet, 192 with a leading time stamp, 204 with a trailing checksum. The file may begin within a packet.
    _magic(
        rb".{0,1024}?(?:G.{187}G.{187}G.{187}G|G.{191}G.{191}G.{191}G|G.{203}G.{203}G.{203}G)",
        DetectedFormat.MPEG_TS,
        ".mts",
    ),
)

_VIDEO_CONTENTS = frozenset({magic.detection.content for magic in _VIDEOS})

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1", b"miaf", b"avci", b"avcs", b"jpeg", b"jpgs",
})  # fmt: skip
_RAW_BRANDS = frozenset({b"crx "})

_EXTENSIONS = {
    DetectedFormat.JPEG: frozenset({".jpg", ".jpeg", ".jpe", ".insp"}),
    DetectedFormat.HEIF: frozenset({".heic", ".heif", ".hif"}),
    DetectedFormat.TIFF: frozenset({".tif", ".tiff"}),
    DetectedFormat.RAW: RAW_EXTENSIONS,
    DetectedFormat.MOV: frozenset({".mov", ".mp4", ".m4v", ".3gp", ".3gpp", ".insv"}),
    DetectedFormat.MATROSKA: frozenset({".mkv", ".webm"}),
    DetectedFormat.MPEG_TS: frozenset({".mts", ".m2ts", ".m2t"}),
    DetectedFormat.MPEG_PS: frozenset({".mpg", ".mpeg", ".mpe", ".vob"}),
    DetectedFormat.MPEG_VIDEO: frozenset({".mpg", ".mpeg", ".mpe", ".vob"}),
}
"""Extensions that files of one format have; of the other formats, each has one."""


def detect_by_signature(head: bytes, format: MediaFormat) -> DetectedFormat | None:
    """The format of a file that begins with `head` and has a name of `format`; None for a format that is not accepted.

    The bytes decide, within the kind (photo, video) of the name: None for a video under a photo's name and vice versa, because each kind
    has its own processing. `find_content_format` looks beyond the kind of the name.
    """
    found = _detect(head, format.kind)
    if format.extension in RAW_EXTENSIONS and (found is None or found.content is DetectedFormat.TIFF):
        return DetectedFormat.RAW
    return None if found is None else found.content


def find_content_format(head: bytes, named: MediaFormat) -> MediaFormat:
    """The format of a file that begins with `head` and is called `named`: `named` where the bytes agree with it or are not recognised,
    otherwise the format of the bytes."""
    other_kind = MediaKind.VIDEO if named.kind is MediaKind.IMAGE else MediaKind.IMAGE
    found = _detect(head, named.kind) or _detect(head, other_kind)
    if found is None:
        return named
    is_raw = found.content is DetectedFormat.TIFF and named.extension in RAW_EXTENSIONS
    if is_raw or named.extension in _EXTENSIONS.get(found.content, (found.extension,)):
        return named
    return find_format(found.extension) or named


def _detect(head: bytes, kind: MediaKind) -> _Detection | None:
    """The format, if it is of this kind."""
    if head[4:8] == b"ftyp":
        found = _detect_by_brands(head)
        return found if (found.content in _VIDEO_CONTENTS) == (kind is MediaKind.VIDEO) else None
    magics = _IMAGES if kind is MediaKind.IMAGE else _VIDEOS
    return next((magic.detection for magic in magics if magic.pattern.match(head)), None)


def _detect_by_brands(head: bytes) -> _Detection:
    """ISO/IEC 14496-12 section 4.3: the major brand, then the compatible ones."""
    size = int.from_bytes(head[:4], "big")
    names = head[8:12] + head[16 : min(size, 512)]
    brands = [names[at : at + 4] for at in range(0, len(names), 4)]
    if _RAW_BRANDS & set(brands[:1]):
        return _Detection(DetectedFormat.RAW, ".cr3")
    if _AVIF_BRANDS & set(brands):
        return _Detection(DetectedFormat.AVIF, ".avif")
    if _HEIF_BRANDS & set(brands):
        return _Detection(DetectedFormat.HEIF, ".heic")
    return _Detection(DetectedFormat.MOV, _EXTENSIONS_BY_BRAND.get(names[:2], ".mp4"))


_EXTENSIONS_BY_BRAND = {b"qt": ".mov", b"3g": ".3gp"}
"""By the first two letters of the major brand; the others are MP4."""
