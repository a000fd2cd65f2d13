"""The table of supported file extensions: the MIME type of each, and whether browsers can show it or run scripts in it.

It examines names only, never content. The list is Immich's; MIME types are IANA's where registered, else those that
Immich sends.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MediaKind(StrEnum):
    """The three groups of formats, with Immich's names in `/server/media-types`."""

    IMAGE = "image"
    VIDEO = "video"
    SIDECAR = "sidecar"


@dataclass(frozen=True, slots=True)
class MediaFormat:
    """`extension` includes the dot, in lower case. `is_web_supported`: browsers show or play the format natively.
    `is_scriptable`: a browser may run scripts in the file, so it is sent as an attachment only."""

    extension: str
    kind: MediaKind
    mime_type: str
    is_web_supported: bool
    is_scriptable: bool


FALLBACK_MIME_TYPE = "application/octet-stream"

_WEB_IMAGES = {
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}

WEB_IMAGE_TYPES = frozenset(_WEB_IMAGES.values())
"""MIME types of the images that browsers show."""

_OTHER_IMAGES = {
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".hif": "image/heif",
    ".insp": "image/jpeg",
    ".jp2": "image/jp2",
    ".jpe": "image/jpeg",
    ".jxl": "image/jxl",
    ".psd": "image/vnd.adobe.photoshop",
    ".svg": "image/svg+xml",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
}

# IANA has registered no RAW format; Immich serves each as `image/<extension>`.
_RAW_NAMES = (
    "3fr", "ari", "arw", "cap", "cin", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "iiq", "k25", "kdc", "mrw",
    "nef", "nrw", "orf", "ori", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f",
)  # fmt: skip

RAW_EXTENSIONS = frozenset(f".{name}" for name in _RAW_NAMES)
"""Extensions of files with a camera's raw sensor data, which often contain a preview, too."""

_WEB_VIDEOS = {
    ".m4v": "video/x-m4v",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}

WEB_VIDEO_TYPES = frozenset(_WEB_VIDEOS.values())
"""MIME types of the videos that browsers play, if the codecs inside are supported."""

_OTHER_VIDEOS = {
    ".3gp": "video/3gpp",
    ".3gpp": "video/3gpp",
    ".avi": "video/vnd.avi",
    ".flv": "video/x-flv",
    ".insv": "video/mp4",
    ".m2t": "video/mp2t",
    ".m2ts": "video/mp2t",
    ".mkv": "video/x-matroska",
    ".mpe": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".mpg": "video/mpeg",
    ".mts": "video/mp2t",
    ".mxf": "application/mxf",
    ".vob": "video/mpeg",
    ".wmv": "video/x-ms-wmv",
}

SIDECAR_EXTENSION = ".xmp"
_SIDECARS = {SIDECAR_EXTENSION: "application/xml"}
MAX_SIDECAR_BYTES = 16 * 1024 * 1024
"""Larger ones are not taken in by an upload, and not read in a library."""

_SCRIPTABLE_TYPES = frozenset({
    "application/pdf",
    "application/xml",
    "text/html",
    "text/xml",
    "text/xsl",
})  # fmt: skip


def can_run_scripts(mime_type: str) -> bool:
    """Whether a browser may run scripts in this type: HTML, XML of every kind (SVG, XHTML), PDF. Parameters are
    ignored."""
    essence = mime_type.partition(";")[0].strip().lower()
    return essence in _SCRIPTABLE_TYPES or essence.endswith("+xml")


def _build_formats(kind: MediaKind, types: dict[str, str], *, is_web_supported: bool) -> list[MediaFormat]:
    return [
        MediaFormat(extension, kind, mime, is_web_supported, can_run_scripts(mime)) for extension, mime in types.items()
    ]


FORMATS: tuple[MediaFormat, ...] = tuple(
    sorted(
        [
            *_build_formats(MediaKind.IMAGE, _WEB_IMAGES, is_web_supported=True),
            *_build_formats(MediaKind.IMAGE, _OTHER_IMAGES, is_web_supported=False),
            *_build_formats(
                MediaKind.IMAGE, {f".{name}": f"image/{name}" for name in _RAW_NAMES}, is_web_supported=False
            ),
            *_build_formats(MediaKind.VIDEO, _WEB_VIDEOS, is_web_supported=True),
            *_build_formats(MediaKind.VIDEO, _OTHER_VIDEOS, is_web_supported=False),
            *_build_formats(MediaKind.SIDECAR, _SIDECARS, is_web_supported=False),
        ],
        key=lambda row: row.extension,
    )
)
"""All formats, by extension."""

_BY_EXTENSION = {row.extension: row for row in FORMATS}
_MAX_EXTENSION_CHARACTERS = max(map(len, _BY_EXTENSION))


def find_format(file_name: str) -> MediaFormat | None:
    """The format of the file name's last extension, in any case; None when it has no extension or an unknown one."""
    dot = file_name.rfind(".")
    if dot < 0 or len(file_name) - dot > _MAX_EXTENSION_CHARACTERS:
        return None
    return _BY_EXTENSION.get(file_name[dot:].lower())


def list_media_types() -> dict[str, list[str]]:
    """Extensions by group, in the shape of `/server/media-types`."""
    return {kind.value: [row.extension for row in FORMATS if row.kind is kind] for kind in MediaKind}
