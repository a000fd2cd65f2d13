"""The one table of file extensions: what is taken in, as which MIME type, and what browsers do with it.

Looks at names only, never at content. The list is Immich's; MIME types are IANA's where registered, else what Immich serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Immich's names of the three groups, as `/server/media-types` spells them."""

    IMAGE = "image"
    VIDEO = "video"
    SIDECAR = "sidecar"


@dataclass(frozen=True, slots=True)
class Format:
    """`extension` with its dot, in lower case. `web`: browsers show or play it as it is. `scriptable`: a browser that
    opens it may run script in it, so it is sent as an attachment only."""

    extension: str
    kind: Kind
    mime_type: str
    web: bool
    scriptable: bool


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
_RAW = (
    "3fr", "ari", "arw", "cap", "cin", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "iiq", "k25", "kdc", "mrw",
    "nef", "nrw", "orf", "ori", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f",
)  # fmt: skip

CAMERA_RAW = frozenset(f".{name}" for name in _RAW)
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


def scriptable(mime_type: str) -> bool:
    """True for types that can run script in a browser: HTML, XML of every kind (SVG, XHTML), PDF. Parameters are ignored."""
    essence = mime_type.partition(";")[0].strip().lower()
    return essence in _SCRIPTABLE_TYPES or essence.endswith("+xml")


def _rows(kind: Kind, types: dict[str, str], *, web: bool) -> list[Format]:
    return [Format(extension, kind, mime, web, scriptable(mime)) for extension, mime in types.items()]


FORMATS: tuple[Format, ...] = tuple(
    sorted(
        [
            *_rows(Kind.IMAGE, _WEB_IMAGES, web=True),
            *_rows(Kind.IMAGE, _OTHER_IMAGES, web=False),
            *_rows(Kind.IMAGE, {f".{name}": f"image/{name}" for name in _RAW}, web=False),
            *_rows(Kind.VIDEO, _WEB_VIDEOS, web=True),
            *_rows(Kind.VIDEO, _OTHER_VIDEOS, web=False),
            *_rows(Kind.SIDECAR, _SIDECARS, web=False),
        ],
        key=lambda row: row.extension,
    )
)
"""All formats, by extension."""

_BY_EXTENSION = {row.extension: row for row in FORMATS}
_LONGEST = max(map(len, _BY_EXTENSION))


def supported(file_name: str) -> Format | None:
    """The format that the last extension of `file_name` names, in any case; None for every other text."""
    dot = file_name.rfind(".")
    if dot < 0 or len(file_name) - dot > _LONGEST:
        return None
    return _BY_EXTENSION.get(file_name[dot:].lower())


def media_types() -> dict[str, list[str]]:
    """Extensions by group, in the shape of `/server/media-types`."""
    return {kind.value: [row.extension for row in FORMATS if row.kind is kind] for kind in Kind}
