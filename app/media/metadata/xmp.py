"""Parses an XMP packet (ISO 16684-1): rating, description, projection, motion photo. Runs in a worker, because the XML may be hostile."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_XMP = "{http://ns.adobe.com/xap/1.0/}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_PANO = "{http://ns.google.com/photos/1.0/panorama/}"
_CAMERA = "{http://ns.google.com/photos/1.0/camera/}"
_CONTAINER = "{http://ns.google.com/photos/1.0/container/}"
_ITEM = "{http://ns.google.com/photos/1.0/container/item/}"

MAX_PACKET = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ContainerItem:
    """One file inside a motion photo. `semantic` is `Primary`, `MotionPhoto`, …; `length` and `padding` in bytes."""

    semantic: str
    length: int
    padding: int


@dataclass(frozen=True, slots=True)
class XmpProperties:
    """`video_offset`: distance of the video's beginning from the end of the file in bytes (MicroVideo, the older form of motion photos)."""

    rating: int | None = None
    description: str | None = None
    projection_type: str | None = None
    video_offset: int | None = None
    items: tuple[ContainerItem, ...] = ()


def parse_xmp(packet: bytes) -> XmpProperties:
    """An unreadable packet gives empty properties."""
    if not packet or len(packet) > MAX_PACKET:
        return XmpProperties()
    try:
        # Runs under resource limits; expat itself rejects exponential entity expansion.
        root = ElementTree.fromstring(packet.strip(b"\0 \r\n\t"))  # noqa: S314
    except (ElementTree.ParseError, ValueError):
        return XmpProperties()
    return XmpProperties(
        rating=_parse_integer(_read_value(root, f"{_XMP}Rating")),
        description=_read_description(root),
        projection_type=_upper(_read_value(root, f"{_PANO}ProjectionType")),
        video_offset=_parse_integer(_read_value(root, f"{_CAMERA}MicroVideoOffset")),
        items=tuple(_read_items(root)),
    )


def _read_value(root: ElementTree.Element, name: str) -> str | None:
    """The value of a property, which is an attribute of its description or an element in it."""
    for element in root.iter():
        if name in element.attrib:
            return element.attrib[name]
        if element.tag == name and element.text and element.text.strip():
            return element.text.strip()
    return None


def _read_description(root: ElementTree.Element) -> str | None:
    for element in root.iter(f"{_DC}description"):
        for wording in element.iter(f"{_RDF}li"):
            if wording.text and wording.text.strip():
                return wording.text.strip()
    return _read_value(root, f"{_DC}description")


def _read_items(root: ElementTree.Element) -> list[ContainerItem]:
    items = []
    for element in root.iter():
        semantic = element.attrib.get(f"{_ITEM}Semantic")
        if semantic is None:
            continue
        length = _parse_integer(element.attrib.get(f"{_ITEM}Length")) or 0
        padding = _parse_integer(element.attrib.get(f"{_ITEM}Padding")) or 0
        items.append(ContainerItem(semantic, length, padding))
    return items


def _parse_integer(value: str | None) -> int | None:
    try:
        return None if value is None else round(float(value)) if len(value) < 20 else None
    except (ValueError, OverflowError):
        return None


def _upper(value: str | None) -> str | None:
    return value.upper() if value else None
