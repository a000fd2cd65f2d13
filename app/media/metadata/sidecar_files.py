"""Reads an XMP file beside a photo or video. Runs in a worker, because the XML may be hostile. Every fault is a `SidecarError`."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from xml.parsers import expat

from app.formats import MAX_SIDECAR_BYTES
from app.media.metadata.tag_reading import TagSet, read_packet_tags

_RDF_ROOT = "http://www.w3.org/1999/02/22-rdf-syntax-ns# RDF"
_DECLARATION = re.compile(rb"\s*<\?xml\s[^>]{0,200}\?>")
_ENCODING = re.compile(rb"encoding\s*=\s*[\"']([A-Za-z0-9_.-]{1,40})[\"']")
_PACKET_START = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_MAX_DEPTH = 200
"""libexiv2 recurses into elements."""

_SINGLE_BYTE_ENCODINGS = frozenset({"iso8859-1", "cp1252", "ascii"})
_UTF_16_STARTS = {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"<\0": "utf-16-le",
    b"\0<": "utf-16-be",
}


class SidecarError(Exception):
    """The sidecar cannot be used; the message is for people."""


def read_sidecar(source: Path) -> TagSet:
    """Raises `SidecarError`."""
    try:
        with source.open("rb") as file:
            data = file.read(MAX_SIDECAR_BYTES + 1)
    except OSError as error:
        raise SidecarError(f"it cannot be read: {error.strerror}") from None
    if len(data) > MAX_SIDECAR_BYTES:
        raise SidecarError(f"it is larger than {MAX_SIDECAR_BYTES} bytes")
    return read_xmp_file(data)


def read_xmp_file(data: bytes) -> TagSet:
    """The tags of a whole XMP file in any encoding. Raises `SidecarError`."""
    return read_packet_tags(_extract_packet(_recode(data)))


def _recode(data: bytes) -> bytes:
    """The file in UTF-8, without XML declaration: exiv2 reads no other encoding."""
    encoding = next((name for start, name in _UTF_16_STARTS.items() if data.startswith(start)), None)
    try:
        if encoding is not None:
            data = data.decode(encoding).encode()
        data = data.removeprefix(codecs.BOM_UTF8).strip(b"\0 \t\r\n")
        declaration = _DECLARATION.match(data)
        if declaration is not None:
            data = data[declaration.end() :].lstrip()
            declared = _ENCODING.search(declaration[0])
            if encoding is None and declared is not None:
                data = _decode_declared(data, declared[1].decode("ascii"))
        data.decode()
    except (UnicodeError, LookupError):
        raise SidecarError("its text is in no encoding that can be read") from None
    return data


def _decode_declared(data: bytes, name: str) -> bytes:
    codec = codecs.lookup(name).name
    return data.decode(codec).encode() if codec in _SINGLE_BYTE_ENCODINGS else data


def _extract_packet(data: bytes) -> bytes:
    """The root element in the form that exiv2 accepts. Checks that `data` is well-formed XML with RDF and without a document type, which XMP does
    not have, and whose entities may expand without end."""
    parser = expat.ParserCreate(encoding="UTF-8", namespace_separator=" ")
    elements: list[tuple[str, int]] = []
    depth = 0

    def refuse_document_type(*_: object) -> None:
        raise SidecarError("it has a document type definition, which XMP does not permit")

    def enter_element(name: str, _attributes: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise SidecarError(f"its elements are nested more than {_MAX_DEPTH} deep")
        if not elements or name == _RDF_ROOT:
            elements.append((name, parser.CurrentByteIndex))

    def leave_element(_name: str) -> None:
        nonlocal depth
        depth -= 1

    parser.StartDoctypeDeclHandler = refuse_document_type
    parser.StartElementHandler = enter_element
    parser.EndElementHandler = leave_element
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise SidecarError(f"it is no well-formed XML: {error}") from None
    if elements[-1][0] != _RDF_ROOT:
        raise SidecarError("it is no XMP")
    packet = data[elements[0][1] :]
    return _PACKET_START + (
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + packet + b"</x:xmpmeta>" if elements[0][0] == _RDF_ROOT else packet
    )
