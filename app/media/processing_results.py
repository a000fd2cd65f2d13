"""Values of media processing: generated files in a local folder, properties of the original, crop boxes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.catalog.schema.records import FileKind
from app.media.metadata.media_metadata import MediaMetadata
from app.storage.ranges import ByteRange


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """One complete local file. `extension` includes the dot."""

    kind: FileKind
    path: Path
    extension: str
    mime_type: str


@dataclass(frozen=True, slots=True)
class ProcessingResult:
    """`width` and `height` of the original in pixels, with orientation applied. `duration` in milliseconds for videos, None for photos.
    `thumbhash` as https://evanw.github.io/thumbhash defines it. `damage`: what is wrong with the original, although it could be decoded."""

    files: tuple[GeneratedFile, ...]
    width: int
    height: int
    duration: int | None
    thumbhash: bytes
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class MetadataResult:
    """`metadata` includes the sidecar's fields, which take precedence. `sidecar_error` is the reason why the sidecar was ignored; None if it
    was read or there is none. `motion_video` is the byte range of the video inside a motion photo, if `is_motion_known`; otherwise it must be looked
    for, see `MediaProcessor.find_motion_video`."""

    metadata: MediaMetadata
    sidecar_error: str | None = None
    is_motion_known: bool = False
    motion_video: ByteRange | None = None


@dataclass(frozen=True, slots=True)
class CropBox:
    """A rectangle of a picture with orientation applied, in pixels of a rendering of `image_width` x `image_height`. `left` and `top` are
    inclusive, `right` and `bottom` exclusive. Parts outside of the picture are cut off."""

    left: float
    top: float
    right: float
    bottom: float
    image_width: int
    image_height: int

    def __post_init__(self) -> None:
        if self.image_width < 1 or self.image_height < 1 or not (self.left < self.right and self.top < self.bottom):
            raise ValueError("the box is empty")
