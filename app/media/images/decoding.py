"""Opens a photo of any supported format for decoding, within limits on pixels and frames. Runs in a worker."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

import pillow_heif
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    PsdImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from app.formats.signatures import DetectedFormat
from app.media.errors import DecodeFailed, LimitExceeded, MissingTool
from app.media.images.colour_spaces import ColourSpace, read_colour_space
from app.media.images.frame_counts import check_gif_frames
from app.media.images.tiff_pages import choose_page, open_at_page, read_tiff_pages
from app.media.images.truncated_jpegs import decode_jpeg

if TYPE_CHECKING:
    from app.media.images.camera_raw import RawImage

try:
    import pillow_jxl
except ImportError:
    pillow_jxl = None

PLUGINS = (
    AvifImagePlugin, BmpImagePlugin, GifImagePlugin, Jpeg2KImagePlugin, JpegImagePlugin, MpoImagePlugin, PngImagePlugin,
    PpmImagePlugin, PsdImagePlugin, TiffImagePlugin, WebPImagePlugin, pillow_jxl,
)  # fmt: skip
"""Pillow knows only the formats whose plugins are imported. All other formats stay disabled."""

pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=2)

_OPENERS: Mapping[DetectedFormat, Callable[[Path | BinaryIO], ImageFile]] = MappingProxyType(
    {DetectedFormat.HEIF: pillow_heif.HeifImageFile, DetectedFormat.AVIF: AvifImagePlugin.AvifImageFile}
)
"""Of formats whose plugins refuse major brands that their decoders accept, such as `miaf`, `mif2` and `avci`."""

MAX_FRAMES = 10_000
"""Limit on the frames of an animation. Only the first is decoded, but opening some formats reads all of them."""

_ORIENTATION = 0x0112
_NO_ORIENTATION = 1


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """`image` is opened, not necessarily decoded. `width` and `height` in pixels as stored, before any reduced decoding.
    `orientation` is the one that decoding does not apply (EXIF's 1 to 8)."""

    image: Image.Image
    width: int
    height: int
    orientation: int
    colours: ColourSpace

    def decode(self, size: tuple[int, int] | None = None) -> bool:
        """Decode `image`; a JPEG at an eighth, a quarter or a half of its size if that is no smaller than `size`. False if the last bytes are
        missing. Raises Pillow's exceptions for a damaged file."""
        if not isinstance(self.image, JpegImageFile):
            self.image.load()
            return True
        if size is not None:
            self.image.draft(None, size)
        return decode_jpeg(self.image)

    @property
    def display_size(self) -> tuple[int, int]:
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def load_raw_decoder() -> Callable[[Path], RawImage]:
    """Returns `open_raw`. Its package is loaded at the first call: that takes a third of the start of a fork server, and most people have no camera
    RAW. Raises `MissingTool` where the package is not installed."""
    try:
        from app.media.images.camera_raw import open_raw  # noqa: PLC0415 - see above
    except ImportError:
        raise MissingTool("camera RAW needs the package rawpy (mediavault[formats])") from None
    return open_raw


def open_image(source: Path, content: DetectedFormat, max_pixels: int) -> OpenedImage:
    """Raises `MediaError`, and any exception of Pillow for a damaged file."""
    if content is DetectedFormat.RAW:
        raw = load_raw_decoder()(source)
        _check_size(raw.width, raw.height, max_pixels)
        return OpenedImage(raw.image, raw.width, raw.height, raw.orientation, read_colour_space(raw.image, source))
    if content is DetectedFormat.JPEG_XL and pillow_jxl is None:
        raise MissingTool("JPEG XL needs the package pillow-jxl-plugin (mediavault[formats])")
    if content is DetectedFormat.GIF:
        check_gif_frames(source, MAX_FRAMES)
    if content is DetectedFormat.TIFF:
        return _open_tiff(source, max_pixels)
    image = _open_with_pillow(source, content, max_pixels)
    with _closing_on_error(image):
        return OpenedImage(image, *image.size, get_remaining_orientation(image), read_colour_space(image, source))


def _open_tiff(source: Path, max_pixels: int) -> OpenedImage:
    """The largest page. One that gives no orientation has that of the first."""
    pages = read_tiff_pages(source, MAX_FRAMES)
    page = choose_page(pages)
    if page is None or page is pages[0]:
        image = _open_with_pillow(source, DetectedFormat.TIFF, max_pixels)
        with _closing_on_error(image):
            return OpenedImage(image, *image.size, _NO_ORIENTATION, read_colour_space(image, source))
    image = _open_with_pillow(open_at_page(source, page), DetectedFormat.TIFF, max_pixels)
    inherited = pages[0].orientation if page.orientation is None else None
    orientation = inherited if inherited is not None and 1 <= inherited <= 8 else _NO_ORIENTATION
    with _closing_on_error(image):
        return OpenedImage(image, *image.size, orientation, read_colour_space(image, source))


@contextmanager
def _closing_on_error(image: Image.Image) -> Iterator[None]:
    try:
        yield
    except BaseException:
        image.close()
        raise


def _open_with_pillow(source: Path | BinaryIO, content: DetectedFormat, max_pixels: int) -> ImageFile:
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opener = _OPENERS.get(content)
            image = Image.open(source, formats=[content.value]) if opener is None else opener(source)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise LimitExceeded(f"it has more than {max_pixels} pixels") from None
    with _closing_on_error(image):
        _check_size(*image.size, max_pixels)
        if getattr(image, "n_frames", 1) > MAX_FRAMES:
            raise LimitExceeded(f"it has more than {MAX_FRAMES} frames")
    return image


def get_remaining_orientation(image: Image.Image) -> int:
    """The orientation that decoding does not apply, EXIF's 1 to 8; 1 for none.

    Pillow applies TIFF's orientation. In HEIF and JPEG XL the container's rotation is authoritative, and the decoder applies it, except for a
    JPEG XL that is a transcoded JPEG: that is decoded as JPEG. In AVIF the container's rotation is authoritative, and Pillow returns it as EXIF's.
    """
    if image.format in ("TIFF", "HEIF") or (image.format == "JXL" and not getattr(image, "jpeg", False)):
        return _NO_ORIENTATION
    try:
        orientation = int(image.getexif().get(_ORIENTATION, _NO_ORIENTATION))  # some programs write it as text
    except (TypeError, ValueError):
        return _NO_ORIENTATION
    return orientation if 1 <= orientation <= 8 else _NO_ORIENTATION


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise DecodeFailed("it has no pixels")
    if width * height > max_pixels:
        raise LimitExceeded(f"it has {width} x {height} pixels, more than {max_pixels}")
