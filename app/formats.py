"""The one table of file extensions: what is taken in, as which MIME type, and what browsers do with it.

Looks at names only, never at content. The list is Immich's; MIME types are IANA's where registered, else what Immich serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MediaKind(StrEnum):
    """Immich's names of the three groups, as `/server/media-types` spells them."""

    IMAGE = "image"
    VIDEO = "video"
    SIDECAR = "sidecar"


@dataclass(frozen=True, slots=True)
class MediaFormat:
    """`extension` with its dot, in lower case. `is_web_supported`: browsers show or play it as it is. `is_scriptable`: a browser that
    opens it may run script in it, so it is sent as an attachment only."""

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

# No RAW format is registered; Immich serves each as `image/<extension>`.
_RAW_NAMES = (
    "3fr", "ari", "arw", "cap", "cin", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "iiq", "k25", "kdc", "mrw",
    "nef", "nrw", "orf", "ori", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f",
)  # fmt: skip

RAW_EXTENSIONS = frozenset(f".{name}" for name in _RAW_NAMES)
"""Extensions of files that a camera's sensor data is in, and often a preview."""

_WEB_VIDEOS = {
    ".m4v": "video/x-m4v",
    ".mov": "video/quicktime",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}

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

_SIDECARS = {".xmp": "application/xml"}

_SCRIPTABLE_TYPES = frozenset({
    "application/pdf",
    "application/xml",
    "text/html",
    "text/xml",
    "text/xsl",
})  # fmt: skip


def can_run_scripts(mime_type: str) -> bool:
    """True for types that can run script in a browser: HTML, XML of every kind (SVG, XHTML), PDF. Parameters are ignored."""
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
    """The format that the last extension of `file_name` names, in any case; None for every other text."""
    dot = file_name.rfind(".")
    if dot < 0 or len(file_name) - dot > _MAX_EXTENSION_CHARACTERS:
        return None
    return _BY_EXTENSION.get(file_name[dot:].lower())


def list_media_types() -> dict[str, list[str]]:
    """Extensions by group, in the shape of `/server/media-types`."""
    return {kind.value: [row.extension for row in FORMATS if row.kind is kind] for kind in MediaKind}
