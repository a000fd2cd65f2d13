"""What processing gives back: files in a folder, and what was learned about the original."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.catalog.schema.records import FileKind
from app.media.metadata.media_metadata import MediaMetadata


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """One complete file. `extension` with its dot."""

    kind: FileKind
    path: Path
    extension: str
    mime_type: str


@dataclass(frozen=True, slots=True)
class ProcessingResult:
    """`width` and `height` in pixels of the original as it is shown (orientation applied), `duration` in milliseconds for
    what moves, `thumbhash` as https://evanw.github.io/thumbhash defines it."""

    files: tuple[GeneratedFile, ...]
    width: int
    height: int
    duration: int | None
    thumbhash: bytes
    metadata: MediaMetadata


@dataclass(frozen=True, slots=True)
class CropBox:
    """A part of a picture as it is shown, in pixels of a rendering of `image_width` x `image_height`: `left` and `top`
    belong to it, `right` and `bottom` do not. What lies outside of the picture is cut off."""

    left: float
    top: float
    right: float
    bottom: float
    image_width: int
    image_height: int

    def __post_init__(self) -> None:
        if self.image_width < 1 or self.image_height < 1 or not (self.left < self.right and self.top < self.bottom):
            raise ValueError("the box is empty")
