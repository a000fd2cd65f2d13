"""Parses what XMP says about the video of a motion photo. Runs in a worker, because the XML may be hostile.

Two forms: https://developer.android.com/media/platform/motion-photo-format, which lists the files that follow the photo, and the older
MicroVideo, which gives the video's distance from the end of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

_CAMERA = "{http://ns.google.com/photos/1.0/camera/}"
_ITEM = "{http://ns.google.com/photos/1.0/container/item/}"
_LIST_ITEM = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
_MAX_PACKET = 4 * 1024 * 1024
_VIDEO = "MotionPhoto"


@dataclass(frozen=True, slots=True)
class MotionPhotoXmp:
    """`distances`: where the video may begin, in bytes before the end of the file. Editors and makers leave wrong ones behind."""

    is_motion_photo: bool = False
    distances: tuple[int, ...] = ()


def parse_motion_photo_xmp(packet: bytes) -> MotionPhotoXmp:
    """An unreadable packet describes no motion photo."""
    if not packet or len(packet) > _MAX_PACKET:
        return MotionPhotoXmp()
    try:
        # Runs under resource limits; expat itself rejects exponential entity expansion.
        root = ElementTree.fromstring(packet.strip(b"\0 \r\n\t"))  # noqa: S314
    except (ElementTree.ParseError, ValueError):
        return MotionPhotoXmp()
    camera = _read_properties(root, _CAMERA)
    items = [_read_properties(item, _ITEM) for item in root.iter(_LIST_ITEM)]
    distances = _compute_distances(items)
    offset = _parse_integer(camera.get("MicroVideoOffset"))
    flags = [camera[name] for name in ("MotionPhoto", "MicroVideo") if name in camera]
    return MotionPhotoXmp(
        is_motion_photo="1" in flags if flags else bool(distances or offset),
        distances=(*distances, *([offset] if offset else [])),
    )


def _read_properties(root: ElementTree.Element, namespace: str) -> dict[str, str]:
    """All simple properties of a namespace, which are attributes or elements, by local name."""
    found: dict[str, str] = {}
    for element in root.iter():
        if element.text and element.text.strip():
            found.setdefault(element.tag, element.text.strip())
        for name, value in element.attrib.items():
            found.setdefault(name, value.strip())
    return {name.removeprefix(namespace): value for name, value in found.items() if name.startswith(namespace)}


def _compute_distances(items: list[dict[str, str]]) -> list[int]:
    """The last item ends at the end of the file; before it lies the one before it, followed by its padding."""
    distances, distance = [], 0
    for item in reversed(items):
        distance += _parse_integer(item.get("Padding"))
        distance += _parse_integer(item.get("Length"))
        if item.get("Semantic") == _VIDEO:
            distances.append(distance)
    return distances


def _parse_integer(value: str | None) -> int:
    """0 for everything that is no natural number of less than 19 digits."""
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 19 else 0
