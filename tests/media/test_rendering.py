"""Derivatives of photos of every format: size, orientation, colours, format, and no metadata of the original."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from app.catalog.schema.records import FileKind
from app.config import Settings
from app.formats import MediaFormat, find_format
from app.media.metadata.media_metadata import MediaMetadata
from app.media.processing_results import CropBox, ProcessingResult
from app.media.processor import MediaProcessor
from tests.media import photo_files
from tests.media.photo_files import (
    BLUE,
    CORNERS,
    GREEN,
    GREY,
    RED,
    Colour,
    ExpectedCorners,
    assert_corners,
    make_quarters,
)
from tests.media.sandbox_scripts import find_newest_fork_server

MAGIC = {FileKind.PREVIEW: b"\xff\xd8\xff", FileKind.THUMBNAIL: b"RIFF", FileKind.FULLSIZE: b"\xff\xd8\xff"}
WHITE = (255, 255, 255)


def named(extension: str) -> MediaFormat:
    format = find_format(f"photo{extension}")
    assert format is not None
    return format


async def processed(
    processor: MediaProcessor, folder: Path, data: bytes | Image.Image, extension: str = ".png"
) -> ProcessingResult:
    source = folder.parent / f"source{extension}"
    source.write_bytes(data if isinstance(data, bytes) else photo_files.encode_image(data, "PNG"))
    return await processor.make_images(source, named(extension), folder)


async def read_metadata(processor: MediaProcessor, folder: Path, extension: str) -> MediaMetadata:
    """Metadata of the file that `processed` has written."""
    return (await processor.read_metadata(folder.parent / f"source{extension}", named(extension))).metadata


def open_derivative(result: ProcessingResult, kind: FileKind = FileKind.PREVIEW) -> Image.Image:
    product = next(product for product in result.files if product.kind is kind)
    with Image.open(product.path) as image:
        image.load()
        return image


@pytest.mark.parametrize("photo_format", photo_files.FORMATS, ids=lambda photo_format: photo_format.extension)
async def test_every_format(processor: MediaProcessor, folder: Path, photo_format: ExpectedCorners) -> None:
    source = folder.parent / f"source{photo_format.extension}"
    photo_format.write(make_quarters(), source)
    format = named(photo_format.extension)

    result = await processor.make_images(source, format, folder)

    assert (result.width, result.height, result.duration) == (640, 480, None)
    kinds = {product.kind for product in result.files}
    assert kinds == {FileKind.PREVIEW, FileKind.THUMBNAIL} | (set() if format.is_web_supported else {FileKind.FULLSIZE})
    for product in result.files:
        assert product.path.read_bytes().startswith(MAGIC[product.kind])
        assert product.path.suffix == product.extension
        with Image.open(product.path) as image:
            assert image.mode == "RGB"
            assert image.size == ((333, 250) if product.kind is FileKind.THUMBNAIL else (640, 480))
            assert_corners(image, within=photo_format.within)
    assert {path.name for path in folder.iterdir()} == {product.path.name for product in result.files}


@pytest.mark.parametrize(
    ("size", "preview", "thumbnail"),
    [
        ((4000, 3000), (1920, 1440), (333, 250)),
        ((3000, 4000), (1440, 1920), (250, 333)),
        ((2881, 2881), (1440, 1440), (250, 250)),
        ((1441, 1440), (1441, 1440), (250, 250)),
        ((200, 100), (200, 100), (200, 100)),
        ((1, 1), (1, 1), (1, 1)),
        ((3, 5000), (3, 5000), (3, 5000)),
        ((30000, 300), (30000, 300), (16383, 164)),
    ],
)
async def test_sizes(
    processor: MediaProcessor, folder: Path, size: tuple[int, int], preview: tuple[int, int], thumbnail: tuple[int, int]
) -> None:
    result = await processed(processor, folder, photo_files.encode_jpeg(make_quarters(*size), subsampling=2), ".jpg")

    assert (result.width, result.height) == size
    for kind, expected in ((FileKind.PREVIEW, preview), (FileKind.THUMBNAIL, thumbnail)):
        have = open_derivative(result, kind).size
        assert all(abs(a - b) <= 1 for a, b in zip(have, expected, strict=True)), f"{kind}: {have}"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", [".jpg", ".png", ".tiff", ".webp", ".avif"])
async def test_orientations(processor: MediaProcessor, folder: Path, orientation: int, extension: str) -> None:
    """Every derivative looks like the original in a viewer that applies EXIF's orientation."""
    upright = make_quarters(800, 600)
    stored = upright.transpose(UNDONE[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    format, options = ORIENTED[extension]

    result = await processed(
        processor, folder, photo_files.encode_image(stored, format, exif=exif, **options), extension
    )

    assert (result.width, result.height) == (800, 600)
    metadata = await read_metadata(processor, folder, extension)
    assert metadata.orientation == str(orientation)
    for product in result.files:
        with Image.open(product.path) as image:
            assert image.width > image.height
            assert_corners(image)
            assert image.getexif().get(0x0112, 1) == 1


ORIENTED: dict[str, tuple[str, dict[str, object]]] = {
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".png": ("PNG", {}),
    ".tiff": ("TIFF", {}),
    ".webp": ("WEBP", {"lossless": True, "method": 0}),
    ".avif": ("AVIF", {"quality": 95, "subsampling": "4:4:4", "speed": 10}),
}

UNDONE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""For each EXIF orientation, the transposition from the displayed picture to the stored one."""


async def test_a_turned_heic_is_turned_once(processor: MediaProcessor, folder: Path) -> None:
    """In HEIC the container's rotation is applied, and EXIF's orientation is ignored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = make_quarters(800, 600).transpose(Image.Transpose.ROTATE_90)
    result = await processed(
        processor, folder, photo_files.encode_image(stored, "HEIF", quality=95, exif=exif.tobytes()), ".heic"
    )
    assert (result.width, result.height) == (800, 600)
    assert_corners(open_derivative(result))


async def test_exif_does_not_turn_a_heic(processor: MediaProcessor, folder: Path) -> None:
    """ISO/IEC 23008-12 section 6.5.10: only the container's properties turn a picture; readers ignore EXIF's orientation, as Immich does."""
    exif = Image.Exif()
    exif[0x0112] = 1
    data = photo_files.encode_image(make_quarters(800, 600), "HEIF", quality=95, exif=exif.tobytes())
    entry = struct.pack(">HHIH", 0x0112, 3, 1, 1)
    assert data.count(entry) == 1
    told = data.replace(entry, struct.pack(">HHIH", 0x0112, 3, 1, 6))
    result = await processed(processor, folder, told, ".heic")
    assert (result.width, result.height) == (800, 600)
    assert_corners(open_derivative(result))


@pytest.mark.parametrize("text", [b"6", b"6 "])
async def test_an_orientation_written_as_text(processor: MediaProcessor, folder: Path, text: bytes) -> None:
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x0112, 2, len(text) + 1, text, 0)
    stored = make_quarters(800, 600).transpose(Image.Transpose.ROTATE_90)
    result = await processed(processor, folder, photo_files.encode_jpeg(stored, exif=exif), ".jpg")
    assert (result.width, result.height) == (800, 600)
    assert_corners(open_derivative(result))


GREYS = tuple((value,) * 3 for value in (89, 112, 72, 128))


def _deep(scale: int) -> Image.Image:
    """An image of grey quarters with 16 bits a pixel."""
    image = Image.new("I;16", (640, 480))
    for place, (grey, _, _) in enumerate(GREYS):
        image.paste(
            grey * scale, ((place % 2) * 320, (place // 2) * 240, (place % 2) * 320 + 320, (place // 2) * 240 + 240)
        )
    return image


def _levels(*colours: Colour) -> list[int]:
    """Luma of the colours (ITU-R 601-2)."""
    return [round(0.299 * red + 0.587 * green + 0.114 * blue) for red, green, blue in colours]


def _modes() -> list[tuple[str, Image.Image, str, tuple[Colour, ...]]]:
    picture = make_quarters()
    grey = make_quarters(colours=GREYS)
    floats = make_quarters(colours=GREYS).convert("L").convert("F").point(lambda value: value * (1 / 255))
    holes = picture.convert("RGBA")
    holes.paste((0, 0, 0, 0), (320, 240, 640, 480))
    half = picture.convert("RGBA")
    half.putalpha(128)
    mixed = tuple(tuple(round(channel * 128 / 255 + 127) for channel in colour) for colour in CORNERS)
    palette = picture.quantize(8)
    bitmap = make_quarters(colours=((0, 0, 0), WHITE, WHITE, (0, 0, 0))).convert("1")
    return [
        ("grey", grey.convert("L"), "PNG", GREYS),
        ("grey-jpeg", grey.convert("L"), "JPEG", GREYS),
        ("16-bit", _deep(257), "PNG", GREYS),
        ("16-bit-tiff", _deep(257), "TIFF", GREYS),
        ("float-tiff", floats, "TIFF", ((0, 0, 0),)),
        ("bitmap", bitmap, "PNG", ((0, 0, 0), WHITE, WHITE, (0, 0, 0))),
        ("palette", palette, "PNG", CORNERS),
        ("alpha", holes, "PNG", (RED, GREEN, BLUE, WHITE)),
        ("alpha-webp", holes, "WEBP", (RED, GREEN, BLUE, WHITE)),
        ("alpha-avif", holes, "AVIF", (RED, GREEN, BLUE, WHITE)),
        ("half-alpha", half, "PNG", mixed),
        ("grey-alpha", holes.convert("LA"), "PNG", (*((level,) * 3 for level in _levels(RED, GREEN, BLUE)), WHITE)),
        ("cmyk", picture.convert("CMYK"), "JPEG", CORNERS),
        ("cmyk-tiff", picture.convert("CMYK"), "TIFF", CORNERS),
        ("ycbcr", picture.convert("YCbCr"), "TIFF", CORNERS),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("image", "format", "expected"), [case[1:] for case in _modes()], ids=[case[0] for case in _modes()]
)
async def test_modes(
    processor: MediaProcessor, folder: Path, image: Image.Image, format: str, expected: tuple[Colour, ...]
) -> None:
    extension = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "WEBP": ".webp", "AVIF": ".avif"}[format]
    options = {"quality": 97, "subsampling": 0} if format == "JPEG" else {"lossless": True} if format == "WEBP" else {}
    result = await processed(processor, folder, photo_files.encode_image(image, format, **options), extension)
    for product in result.files:
        with Image.open(product.path) as result:
            if len(expected) == 1:
                assert_corners(result, GREYS)
            else:
                assert_corners(result, expected)


async def test_a_palette_with_a_transparent_colour(processor: MediaProcessor, folder: Path) -> None:
    image = make_quarters().quantize(8)
    transparent = image.getpixel((600, 400))
    result = await processed(
        processor, folder, photo_files.encode_image(image, "GIF", transparency=transparent), ".gif"
    )
    assert_corners(open_derivative(result), (RED, GREEN, BLUE, WHITE))


async def test_the_first_frame_of_an_animation(processor: MediaProcessor, folder: Path) -> None:
    later = [Image.new("RGB", (640, 480), colour) for colour in (GREEN, BLUE)]
    for format, extension in (("GIF", ".gif"), ("WEBP", ".webp"), ("PNG", ".png"), ("AVIF", ".avif")):
        data = photo_files.encode_image(make_quarters(), format, save_all=True, append_images=later, duration=100)
        result = await processed(processor, folder, data, extension)
        assert_corners(open_derivative(result), within=6)


async def test_a_profile_is_applied_once_and_left_behind(processor: MediaProcessor, folder: Path) -> None:
    """The profile differs from sRGB only in its tone curve, which is linear."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    in_lab = ImageCms.profileToProfile(make_quarters(), srgb, lab, outputMode="LAB")
    assert in_lab is not None
    data = photo_files.encode_image(in_lab, "TIFF", icc_profile=lab.tobytes())

    result = await processed(processor, folder, data, ".tif")

    assert result.files
    for product in result.files:
        with Image.open(product.path) as image:
            assert "icc_profile" not in image.info
            assert_corners(image, within=4)


async def test_a_broken_profile_costs_nothing(processor: MediaProcessor, folder: Path) -> None:
    result = await processed(
        processor, folder, photo_files.encode_jpeg(make_quarters(), icc_profile=b"no profile at all" * 20), ".jpg"
    )
    assert_corners(open_derivative(result))


async def test_no_original_metadata_in_derivatives(processor: MediaProcessor, folder: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Whose camera"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    result = await processed(
        processor, folder, photo_files.encode_jpeg(make_quarters(), exif=exif, comment=b"secret place"), ".jpg"
    )
    for product in result.files:
        data = product.path.read_bytes()
        assert b"Whose camera" not in data
        assert b"secret place" not in data
        assert b"Exif" not in data


async def test_chroma_is_whole(processor: MediaProcessor, folder: Path) -> None:
    result = await processed(processor, folder, make_quarters())
    layers = getattr(open_derivative(result), "layer", None)
    assert [layer[1:3] for layer in layers or ()] == [(1, 1), (1, 1), (1, 1)]


async def test_raw_is_developed(processor: MediaProcessor, folder: Path) -> None:
    result = await processed(processor, folder, photo_files.encode_dng(make_quarters(320, 240)), ".dng")
    assert abs(result.width - 320) <= 1
    assert abs(result.height - 240) <= 1
    red, green, blue, _ = photo_files.read_corners(open_derivative(result, FileKind.FULLSIZE))
    assert red[0] > 2 * red[1]
    assert green[1] > 2 * green[0]
    assert blue[2] > 2 * blue[0]
    metadata = await read_metadata(processor, folder, ".dng")
    assert (metadata.make, metadata.model) == ("Camera Works", "Model One")


async def test_what_decodes_raw_is_loaded_once_and_only_if_it_is_needed(folder: Path) -> None:
    """Loading it takes a third of the start and of the memory of a fork server."""
    async with MediaProcessor(Settings()).running() as processor:  # pyright: ignore[reportCallIssue]
        await processed(processor, folder, make_quarters())
        assert not _has_raw_decoder()
        await processed(processor, folder, photo_files.encode_dng(make_quarters(320, 240)), ".dng")
        assert _has_raw_decoder()


def _has_raw_decoder() -> bool:
    """Whether the newest fork server has loaded it."""
    loaded = find_newest_fork_server().memory_maps(grouped=True)
    return any("_rawpy" in each.path for each in loaded)


async def test_the_preview_in_a_raw_file_is_taken(processor: MediaProcessor, folder: Path) -> None:
    """The preview is rotated as the file says. Its colours differ from those of development, so they show the source."""
    preview = make_quarters(320, 240, colours=(GREY, BLUE, GREEN, RED))
    stored = photo_files.encode_dng(make_quarters(320, 240), preview=preview, orientation=6)
    result = await processed(processor, folder, stored, ".dng")
    assert (result.width, result.height) == (240, 320)
    assert_corners(open_derivative(result), (GREEN, GREY, RED, BLUE))


async def test_content_decides(processor: MediaProcessor, folder: Path) -> None:
    result = await processed(processor, folder, photo_files.encode_image(make_quarters(), "PNG"), ".jpg")
    assert_corners(open_derivative(result))


@pytest.mark.parametrize(
    ("box", "colour"),
    [
        (CropBox(0, 0, 100, 100, 640, 480), RED),
        (CropBox(240, 10, 310, 120, 320, 240), GREEN),
        (CropBox(-50, 400, 60, 900, 640, 480), BLUE),
        (CropBox(0.9, 0.9, 1, 1, 1, 1), GREY),
    ],
)
async def test_person_thumbnails(processor: MediaProcessor, folder: Path, box: CropBox, colour: Colour) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source = folder.parent / "source.jpg"
    stored = make_quarters(4000, 3000).transpose(Image.Transpose.ROTATE_90)
    source.write_bytes(photo_files.encode_jpeg(stored, exif=exif))
    result = await processor.make_person_thumbnail(source, named(".jpg"), box, folder)
    assert result.kind is FileKind.PERSON
    with Image.open(result.path) as image:
        assert (image.format, image.size) == ("JPEG", (250, 250))
        assert_corners(image, (colour,) * 4)


async def test_profile_images(processor: MediaProcessor, folder: Path) -> None:
    source = folder.parent / "source.png"
    make_quarters(900, 300).save(source)
    result = await processor.make_profile_image(source, named(".png"), folder)
    assert result.kind is FileKind.PROFILE
    with Image.open(result.path) as image:
        assert (image.format, image.size) == ("JPEG", (250, 250))
        assert_corners(image)


@pytest.mark.parametrize("brand", ["mif1", "mif2", "miaf", "avci", "isom"])
@pytest.mark.parametrize(("format", "extension"), [("HEIF", ".heic"), ("AVIF", ".avif")])
async def test_any_major_brand(
    processor: MediaProcessor, folder: Path, brand: str, format: str, extension: str
) -> None:
    """The compatible brands tell what a file is (ISO/IEC 14496-12 section 4.3)."""
    data = photo_files.encode_image(make_quarters(160, 120), format, quality=95)
    result = await processed(processor, folder, data[:8] + brand.encode() + data[12:], extension)
    assert_corners(open_derivative(result))
