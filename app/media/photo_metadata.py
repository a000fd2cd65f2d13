"""Reads the metadata of a photo and its sidecar. Runs in a worker. The results are JSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from app.formats.signatures import DetectedFormat
from app.media.images.decoding import open_image
from app.media.metadata.exif import build_metadata, clean_text, get_xmp_packet
from app.media.metadata.media_metadata import MediaMetadata
from app.media.metadata.raw_exif import read_raw_exif
from app.media.metadata.xmp import MAX_PACKET, parse_xmp


def read_metadata(source: str, content: str, pixels: int, sidecar: str | None) -> dict[str, Any]:
    """`metadata` as `MediaMetadata.to_json` writes it; `sidecar_error`, the reason why the sidecar was ignored, or None."""
    path, kind = Path(source), DetectedFormat(content)
    exif = read_raw_exif(path) if kind is DetectedFormat.RAW else None
    if exif is not None:
        metadata = build_metadata(exif, b"")
    else:
        image = open_image(path, kind, pixels).image
        metadata = build_metadata(image.getexif(), get_xmp_packet(image))
    return _merge(metadata, sidecar)


def merge_sidecar(source: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """As `read_metadata`, for given `metadata` and the sidecar `source`."""
    return _merge(MediaMetadata.from_json(metadata), source)


def _merge(metadata: MediaMetadata, sidecar: str | None) -> dict[str, Any]:
    if sidecar is None:
        return {"metadata": metadata.to_json(), "sidecar_error": None}
    with Path(sidecar).open("rb") as file:
        packet = file.read(MAX_PACKET + 1)
    if len(packet) > MAX_PACKET:
        return {"metadata": metadata.to_json(), "sidecar_error": f"it is larger than {MAX_PACKET} bytes"}
    xmp = parse_xmp(packet)
    merged = replace(
        metadata,
        rating=metadata.rating if xmp.rating is None else xmp.rating,
        description=clean_text(xmp.description) or metadata.description,
    )
    return {"metadata": merged.to_json(), "sidecar_error": None}
