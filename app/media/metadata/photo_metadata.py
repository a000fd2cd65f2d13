"""Builds `MediaMetadata` of photos from tags, and merges sidecars. Runs in a worker. The results are JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from app.formats.signatures import DetectedFormat
from app.media.containers.heif_items import read_heif_items
from app.media.containers.jxl_header import read_jxl_header
from app.media.containers.xmp_boxes import read_xmp_packet
from app.media.metadata import tag_table
from app.media.metadata.dates import (
    CaptureDate,
    DateSource,
    choose_capture_date,
    is_plausible,
    parse_date,
    parse_offset,
)
from app.media.metadata.maker_notes import read_content_identifier
from app.media.metadata.media_metadata import MediaMetadata, format_zone
from app.media.metadata.positions import find_zone, localize, parse_number, parse_position
from app.media.metadata.sidecar_files import SidecarError, read_sidecar, read_xmp_file
from app.media.metadata.tag_reading import TagSet, add_exif_tags, add_packet_tags, read_file_tags
from app.media.metadata.tag_table import DateTags

_NO_LENSES = ("unknown", "none", "n/a", "----", "manual lens", "(")
_NUMBER = re.compile(r"-?[\d. ]+")
_ORIENTATIONS = frozenset("12345678")
_LONGEST_FRACTION = 0.25001
_LARGE_ISO = 65535
_MAX_NUMBERS = 8

_T = TypeVar("_T")


def read_metadata(source: str, content: str, sidecar: str | None) -> dict[str, Any]:
    """`metadata` as `MediaMetadata.to_json` writes it; `sidecar_error`, the reason why the sidecar was ignored, or None."""
    tags, error = _read_sidecar(sidecar)
    return _answer(_read_photo(Path(source), DetectedFormat(content), tags), error)


def _read_photo(source: Path, content: DetectedFormat, sidecar: TagSet) -> MediaMetadata:
    """HEIF, AVIF and JPEG XL have an orientation of their own, in whose place EXIF's is ignored."""
    tags = read_file_tags(source)
    orientation = None
    if content in (DetectedFormat.HEIF, DetectedFormat.AVIF):
        items = read_heif_items(source)
        orientation = items.orientation
        tags = add_packet_tags(add_exif_tags(tags, items.exif), items.xmp)
    elif content is DetectedFormat.JPEG_XL:
        header = read_jxl_header(source)
        orientation = header.orientation
        tags = replace(tags, width=header.width, height=header.height)
    metadata = build_metadata(tags, sidecar, datetime.now(UTC))
    return metadata if orientation is None else replace(metadata, orientation=str(orientation))


def complete_metadata(
    source: str, sidecar: str | None, metadata: dict[str, Any], *, has_packet: bool
) -> dict[str, Any]:
    """As `read_metadata`, for a video whose `metadata` was read otherwise. `source` is opened only if it `has_packet`, see `_merge_packet`."""
    now = datetime.now(UTC)
    tags, error = _read_sidecar(sidecar)
    own = MediaMetadata.from_json(metadata)
    if has_packet:
        own = _merge_packet(own, read_xmp_packet(Path(source)), now)
    return _answer(_merge_sidecar(own, tags, now), error)


def get_position(metadata: MediaMetadata) -> tuple[float, float] | None:
    """Latitude and longitude in degrees."""
    if metadata.latitude is None or metadata.longitude is None:
        return None
    return metadata.latitude, metadata.longitude


def build_metadata(file: TagSet, sidecar: TagSet, now: datetime) -> MediaMetadata:
    """Metadata from the tags of a file and its sidecar, which takes precedence field by field. Unreadable fields are left out."""
    both = (sidecar, file)
    position = _first(both, _read_position)
    captured = _first(both, lambda tags: _read_capture_date(both, tags, now))
    taken, zone = _locate_date(captured, position)
    orientation = _read_orientation(file)
    return MediaMetadata(
        make=_first(both, lambda tags: tags.first(tag_table.MAKE)),
        model=_first(both, lambda tags: tags.first(tag_table.MODEL)),
        lens_model=_first(both, _read_lens),
        exposure_time=_first(both, _read_exposure),
        f_number=_first(both, lambda tags: _read_positive(tags, tag_table.F_NUMBER)),
        iso=_first(both, _read_iso),
        focal_length=_first(both, lambda tags: _read_positive(tags, tag_table.FOCAL_LENGTH)),
        date_time_original=taken,
        modify_date=_first(both, lambda tags: _read_modify_date(tags, now)),
        time_zone=zone,
        latitude=position[0] if position else None,
        longitude=position[1] if position else None,
        rating=_first(both, _read_rating),
        description=_first(both, lambda tags: tags.first(tag_table.DESCRIPTION)),
        orientation=None if orientation is None else str(orientation),
        projection_type=_first(both, _read_projection),
        exif_image_width=file.width or _read_integer(file, tag_table.WIDTH),
        exif_image_height=file.height or _read_integer(file, tag_table.HEIGHT),
        live_photo_cid=read_content_identifier(file.maker_note),
    )


def _answer(metadata: MediaMetadata, sidecar_error: str | None) -> dict[str, Any]:
    return {"metadata": metadata.to_json(), "sidecar_error": sidecar_error}


def _read_sidecar(sidecar: str | None) -> tuple[TagSet, str | None]:
    if sidecar is None:
        return TagSet(), None
    try:
        return read_sidecar(Path(sidecar)), None
    except SidecarError as error:
        return TagSet(), str(error)


def _merge_sidecar(own: MediaMetadata, sidecar: TagSet, now: datetime) -> MediaMetadata:
    """Fields of the sidecar in place of the file's `own`. A position, from either, gives a date without a zone that of the place."""
    theirs = build_metadata(TagSet(), sidecar, now)
    position = _read_position(sidecar) or get_position(own)
    captured = _read_capture_date((sidecar,), sidecar, now)
    taken, zone = own.date_time_original, own.time_zone
    if captured is not None:
        taken, zone = _locate_date(captured, position)
        if zone is None and taken == own.date_time_original:
            zone = own.time_zone
    elif taken is not None and zone is None:
        taken, zone = _locate_date(CaptureDate(taken, has_zone=False), position)
    given = {each.name: value for each in fields(MediaMetadata) if (value := getattr(theirs, each.name)) is not None}
    located = {"date_time_original": taken, "time_zone": zone}
    return replace(own, **given | located)


def _merge_packet(own: MediaMetadata, packet: bytes, now: datetime) -> MediaMetadata:
    """Fields of a video's XMP packet in place of the container's `own`, as in exiftool; unchanged if the packet cannot be read. Of its dates only the
    original one goes before those of the container: programs write the others when they export."""
    try:
        tags = read_xmp_file(packet)
    except SidecarError:
        return own
    if own.date_time_original is not None:
        others = {names.text for names in tag_table.CAPTURE_DATES} - {tag_table.XMP_DATE_TIME_ORIGINAL.text}
        tags = replace(tags, values={key: value for key, value in tags.values.items() if key not in others})
    return _merge_sidecar(own, tags, now)


def _first(tag_sets: Iterable[TagSet], read: Callable[[TagSet], _T | None]) -> _T | None:
    return next((value for value in map(read, tag_sets) if value is not None), None)


def _locate_date(
    captured: CaptureDate | None, position: tuple[float, float] | None
) -> tuple[datetime | None, str | None]:
    """The date and the name of its zone: `UTC+2` if the file gives an offset, an IANA name if only the position tells the zone."""
    if captured is None:
        return None, None
    if captured.has_zone or position is None:
        return captured.moment, format_zone(captured.moment) if captured.has_zone else None
    zone = find_zone(*position)
    local = localize(captured.moment, zone) if zone is not None else None
    return (captured.moment, None) if local is None else (local, zone)


def _read_capture_date(tag_sets: Sequence[TagSet], tags: TagSet, now: datetime) -> CaptureDate | None:
    """The date of capture by `tags`. Offsets and the clock of GPS may come from any of `tag_sets`."""
    gps_time = _first(tag_sets, lambda each: parse_date(_read_clock(each, tag_table.GPS_DATE)))
    offsets = [
        DateSource(each.values.get(names.text), offset=each.values.get(names.offset))
        for each in tag_sets
        for names in (*tag_table.CAPTURE_DATES, tag_table.MODIFY_DATE)
        if names.offset
    ]
    sources = (_read_date_source(tags, names) for names in tag_table.CAPTURE_DATES)
    return choose_capture_date(sources, offsets, gps_time=gps_time and gps_time.replace(tzinfo=UTC), now=now)


def _read_date_source(tags: TagSet, names: DateTags) -> DateSource:
    text = _read_clock(tags, names) if names.time else tags.values.get(names.text)
    return DateSource(text, tags.values.get(names.fraction), tags.values.get(names.offset), names.is_utc)


def _read_clock(tags: TagSet, names: DateTags) -> str | None:
    """Date and time of day from two tags. EXIF's GPS clock is three numbers; IPTC's `+00:00` stands for an unknown zone, too."""
    date, clock = tags.values.get(names.text), tags.values.get(names.time)
    if not date or not clock:
        return None if names.is_utc else date
    if not names.is_utc:
        return f"{date} {clock.removesuffix('+00:00')}"
    day, parts = parse_date(date), [parse_number(part) for part in clock.split()]
    if day is None or len(parts) != 3:
        return None
    hours, minutes, seconds = (part or 0 for part in parts)
    with suppress(OverflowError):
        return (day + timedelta(hours=hours, minutes=minutes, seconds=seconds)).isoformat()
    return None


def _read_modify_date(tags: TagSet, now: datetime) -> datetime | None:
    for names in (tag_table.MODIFY_DATE, tag_table.XMP_MODIFY_DATE):
        source = _read_date_source(tags, names)
        changed = parse_date(source.text, source.fraction)
        if changed is not None:
            changed = changed.replace(tzinfo=changed.tzinfo or parse_offset(source.offset))
            if is_plausible(changed, now):
                return changed
    return None


def _read_position(tags: TagSet) -> tuple[float, float] | None:
    return next((found for keys in tag_table.POSITIONS if (found := parse_position(*map(tags.values.get, keys)))), None)


def _read_numbers(tags: TagSet, keys: Iterable[str]) -> Iterator[float]:
    """All numbers of all keys, in order; a tag may hold several."""
    for text in tags.present(keys):
        for part in text.replace(",", " ").split()[:_MAX_NUMBERS]:
            number = parse_number(part)
            if number is not None:
                yield number


def _read_positive(tags: TagSet, keys: Iterable[str]) -> float | None:
    return next((round(number, 4) for number in _read_numbers(tags, keys) if round(number, 4) > 0), None)


def _read_integer(tags: TagSet, keys: Iterable[str]) -> int | None:
    return next((int(number) for number in _read_numbers(tags, keys) if 1 <= number < 2**31), None)


def _read_iso(tags: TagSet) -> int | None:
    """65535 stands for a larger number, which another tag has (EXIF 3.0, section 4.6.6.7.5)."""
    numbers = [int(number) for number in _read_numbers(tags, tag_table.ISO) if 1 <= number < 2**31]
    return next((number for number in numbers if number != _LARGE_ISO), numbers[0] if numbers else None)


def _read_rating(tags: TagSet) -> int | None:
    return next((int(number) for number in _read_numbers(tags, tag_table.RATING) if -1 <= number <= 5), None)


def _read_exposure(tags: TagSet) -> str | None:
    """Seconds as exiftool writes them: `1/250`, `0.4`, `2.5`."""
    seconds = next((number for number in _read_numbers(tags, tag_table.EXPOSURE_TIME) if number > 0), None)
    if seconds is None:
        return None
    if seconds < _LONGEST_FRACTION:
        return f"1/{round(1 / seconds)}"
    return f"{seconds:.1f}".removesuffix(".0")


def _read_orientation(tags: TagSet) -> int | None:
    """EXIF's 1 to 8. A first tag without a valid value is not replaced by the next one, because decoders do not look there, either."""
    written = next((tags.values[key] for key in tag_table.ORIENTATION if key in tags.values), "")
    return int(written) if written in _ORIENTATIONS else None


def _read_projection(tags: TagSet) -> str | None:
    written = tags.first(tag_table.PROJECTION_TYPE)
    return written.upper() if written else None


def _read_lens(tags: TagSet) -> str | None:
    """exiv2 writes a lens number that it does not know as `(61182)` or as the number."""
    for name in tags.present((*tag_table.LENS_IDS, *tag_table.LENS_NAMES)):
        if not name.lower().startswith(_NO_LENSES) and not _NUMBER.fullmatch(name):
            return name
    return None
