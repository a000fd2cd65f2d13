"""Malicious files: each is refused with a reason in bounded time, and none makes a process open the files or URLs that it names."""

from __future__ import annotations

import asyncio
import os
import random
import re
import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from PIL import Image

from app.config import Settings
from app.formats import FORMATS, MediaKind, find_format
from app.formats.signatures import DetectedFormat
from app.media.errors import DecodeFailed, LimitExceeded, MediaError, ProcessingTimedOut
from app.media.images.decoding import open_image
from app.media.processor import MediaProcessor
from tests.media import photo_files
from tests.media.photo_files import make_quarters
from tests.media.video_files import make_video
from tests.real.archive_programs import program

ACCEPTED = [format for format in FORMATS if format.kind is not MediaKind.SIDECAR]
ACCEPTED_BY_NAME = {format.extension: format for format in ACCEPTED}


async def refused(processor: MediaProcessor, source: Path, folder: Path) -> MediaError:
    """Assert that all processing of the file fails; returns the error."""
    format = find_format(source.name)
    assert format is not None
    make = processor.make_images if format.kind is MediaKind.IMAGE else processor.make_poster
    with pytest.raises(MediaError) as caught:
        await make(source, format, folder)
    if format.kind is MediaKind.VIDEO:
        with pytest.raises(MediaError):
            await processor.make_playable(source, format, folder)
    with suppress(MediaError):
        assert await processor.find_motion_video(source, format) is None
    error = caught.value
    assert error.reason
    assert "\n" not in error.reason
    assert str(folder.parent) not in error.reason
    return error


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


WHOLE: dict[str, Callable[[], bytes]] = {
    ".jpg": lambda: photo_files.encode_jpeg(noise(), quality=90),
    ".png": lambda: photo_files.encode_image(noise(), "PNG"),
    ".gif": lambda: photo_files.encode_image(noise(), "GIF"),
    ".webp": lambda: photo_files.encode_image(noise(), "WEBP"),
    ".avif": lambda: photo_files.encode_image(noise(), "AVIF"),
    ".heic": lambda: photo_files.encode_image(noise(), "HEIF"),
    ".tif": lambda: photo_files.encode_image(noise(), "TIFF", compression="tiff_lzw"),
    ".bmp": lambda: photo_files.encode_image(noise(), "BMP"),
    ".jp2": lambda: photo_files.encode_image(noise(), "JPEG2000"),
    ".jxl": lambda: photo_files.encode_image(noise(), "JXL"),
    ".dng": lambda: photo_files.encode_dng(make_quarters(160, 120)),
    ".mp4": lambda: make_video(".mp4"),
    ".mov": lambda: make_video(".mov"),
    ".mkv": lambda: make_video(".mkv"),
    ".avi": lambda: make_video(".avi"),
}


def noise() -> Image.Image:
    return Image.effect_noise((300, 200), 60).convert("RGB")


@pytest.mark.parametrize("extension", WHOLE)
async def test_cut_short(processor: MediaProcessor, folder: Path, extension: str) -> None:
    whole = WHOLE[extension]()
    for tenth in range(10):
        source = folder.parent / f"cut-{tenth}{extension}"
        source.write_bytes(whole[: len(whole) * tenth // 10])
        error = await refused(processor, source, folder)
        assert not error.retryable


async def test_a_header_of_too_many_pixels(processor: MediaProcessor, folder: Path) -> None:
    source = folder.parent / "large.png"
    source.write_bytes(png_header(60_000, 60_000) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    assert isinstance(await refused(processor, source, folder), LimitExceeded)


@pytest.mark.parametrize(("name", "content"), [("HEIF", DetectedFormat.HEIF), ("AVIF", DetectedFormat.AVIF)])
def test_a_refused_picture_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: DetectedFormat
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # so that it is restored
    source = tmp_path / "picture"
    make_quarters(64, 64).save(source, format=name)
    with pytest.raises(LimitExceeded):
        open_image(source, content, 64 * 64 - 1)
    assert source not in [entry.resolve() for entry in Path("/proc/self/fd").iterdir()]


async def test_a_small_file_of_many_pixels(processor: MediaProcessor, folder: Path) -> None:
    """A decompression bomb: some hundred kilobytes that decode to gigabytes."""
    source = folder.parent / "bomb.png"
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(20_001 // 8 * 100)) for _ in range(800)) + rows.flush()
    source.write_bytes(png_header(20_000, 80_000, depth=1, colour=0) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    assert source.stat().st_size < 1_000_000
    assert isinstance(await refused(processor, source, folder), LimitExceeded)


async def test_a_text_that_grows(processor: MediaProcessor, folder: Path) -> None:
    source = folder.parent / "text.png"
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9))
    source.write_bytes(png_header(10, 10) + bomb * 3 + chunk(b"IDAT", zlib.compress(bytes(310))) + chunk(b"IEND", b""))
    await refused(processor, source, folder)


async def test_a_hundred_thousand_frames(processor: MediaProcessor, folder: Path) -> None:
    source = folder.parent / "frames.gif"
    frame = b"!\xf9\x04\0\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    source.write_bytes(b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + frame * 100_000 + b";")
    assert isinstance(await refused(processor, source, folder), LimitExceeded)


async def test_directories_in_a_circle(processor: MediaProcessor, folder: Path) -> None:
    """Two valid directories, each of which names the other as the next one."""
    data = bytearray(photo_files.encode_image(make_quarters(), "TIFF"))
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    second = bytes(data[first : first + 2 + 12 * count]) + struct.pack("<I", first)
    struct.pack_into("<I", data, first + 2 + 12 * count, len(data))
    source = folder.parent / "circle.tif"
    source.write_bytes(bytes(data) + second)
    assert "loop" in (await refused(processor, source, folder)).reason


async def test_noise_under_every_accepted_name(processor: MediaProcessor, folder: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    data = random.Random(seed).randbytes(100_000)
    for format in ACCEPTED:
        source = folder.parent / f"noise{format.extension}"
        source.write_bytes(data)
        assert isinstance(await refused(processor, source, folder), DecodeFailed)


async def test_nothing_under_every_accepted_name(processor: MediaProcessor, folder: Path) -> None:
    for format in ACCEPTED:
        source = folder.parent / f"nothing{format.extension}"
        source.write_bytes(b"")
        await refused(processor, source, folder)


async def test_a_file_that_takes_too_long(folder: Path) -> None:
    source = folder.parent / "large.jpg"
    source.write_bytes(photo_files.encode_jpeg(make_quarters(4000, 4000), progressive=True))
    settings = Settings(MEDIAVAULT_MEDIA_SECONDS=0.02)  # pyright: ignore[reportCallIssue]
    processor = MediaProcessor(settings)
    async with processor._sandbox.running():
        error = await refused(processor, source, folder)
    assert isinstance(error, ProcessingTimedOut)
    assert error.retryable


async def test_a_file_that_needs_too_much_memory(folder: Path) -> None:
    source = folder.parent / "large.png"
    palette = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256))
    pixels = chunk(b"IDAT", zlib.compress(bytes(10_001 * 10_000), 1))
    source.write_bytes(png_header(10_000, 10_000, colour=3) + palette + pixels + chunk(b"IEND", b""))
    settings = Settings(MEDIAVAULT_MEDIA_MEMORY=512 * 1024**2)  # pyright: ignore[reportCallIssue]
    async with MediaProcessor(settings).running() as processor:
        assert isinstance(await refused(processor, source, folder), LimitExceeded)
        small = folder.parent / "small.jpg"
        small.write_bytes(photo_files.encode_jpeg(make_quarters(4000, 3000)))
        assert (await processor.make_images(small, ACCEPTED_BY_NAME[".jpg"], folder)).width == 4000


POINTING = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{target}'\nduration 10\n",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="64" height="64">'
    '<image xlink:href="{target}" width="64" height="64"/></svg>',
    "xml": '<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "{target}">]><svg xmlns="http://www.w3.org/2000/svg">&x;</svg>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
    "dash": '<?xml version="1.0"?><MPD type="static"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
    'bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>',
}


def referring_movie(target: str) -> bytes:
    """A QuickTime movie whose samples are in another file (data references by alias and by URL)."""
    whole = make_video(".mov")
    at = whole.index(b"dref") - 4
    (size,) = struct.unpack_from(">I", whole, at)
    url = target.encode() + b"\0"
    entry = struct.pack(">I4sI", 12 + len(url), b"url ", 0) + url
    changed = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    return whole[:at] + changed + whole[at + size :]


@asynccontextmanager
async def listener() -> AsyncIterator[tuple[int, list[str]]]:
    """A listening port, and the list of its clients so far."""
    visits: list[str] = []

    def visited(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(str(writer.get_extra_info("peername")))
        writer.close()

    server = await asyncio.start_server(visited, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], visits


PROCESSING = """
    import asyncio, sys
    from pathlib import Path
    from app.config import Settings
    from app.formats import MediaKind, find_format
    from app.media.errors import MediaError
    from app.media.processor import MediaProcessor

    async def main():
        async with MediaProcessor(Settings()).running() as processor:
            for number, name in enumerate(sys.argv[1:]):
                source = Path(name)
                format = find_format(name)
                folder = source.parent / f"made-{number}"
                folder.mkdir()
                calls = [processor.make_poster, processor.make_playable] if format.kind is MediaKind.VIDEO else [processor.make_images]
                for call in calls:
                    try:
                        print(source.name, "made", await call(source, format, folder))
                    except MediaError as error:
                        print(source.name, "refused", error.reason)

    asyncio.run(main())
"""


async def test_what_points_elsewhere_gets_nowhere(tmp_path: Path) -> None:
    """strace records every file and connection that is opened during processing."""
    secret = tmp_path / "secret" / "secret.mp4"
    secret.parent.mkdir()
    secret.write_bytes(make_video(".mp4"))
    trace = tmp_path / "trace"
    async with listener() as (port, visits):
        sources = []
        for target in (str(secret), f"http://127.0.0.1:{port}/secret.mp4"):
            for name, text in POINTING.items():
                for extension in (".mp4", ".mpg", ".jpg", ".svg"):
                    source = tmp_path / f"{name}-{len(sources)}{extension}"
                    source.write_text(text.format(target=target, port=port))
                    sources.append(source)
            source = tmp_path / f"references-{len(sources)}.mov"
            source.write_bytes(referring_movie(target))
            sources.append(source)
        command = (
            program("strace"), "-f", "-qq", "-e", "trace=file,network", "-o", str(trace),
            sys.executable, "-c", textwrap.dedent(PROCESSING), *map(str, sources),
        )  # fmt: skip
        run = await asyncio.create_subprocess_exec(
            *command, cwd=Path(__file__).parents[2], env={"PATH": os.environ["PATH"]}, stdout=subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(run.communicate(), 120)
    lines = output.decode().splitlines()
    assert run.returncode == 0
    assert not [line for line in lines if " made " in line]
    assert {line.split()[0] for line in lines if " refused " in line} == {source.name for source in sources}
    assert visits == []
    traced = trace.read_text(errors="replace")
    assert "references-" in traced, "the trace shows nothing"
    assert not re.findall(
        rf'^.*\b(?:open|openat|openat2|stat|access)\w*\([^"]*"{re.escape(str(secret))}.*$', traced, re.MULTILINE
    )
    assert not re.findall(r"^.*connect\(.*AF_INET.*$", traced, re.MULTILINE)


async def test_damage_anywhere(processor: MediaProcessor, folder: Path, soak: bool) -> None:
    """Files with random changed bytes give derivatives or an error, and the next file is processed normally."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for extension, make in WHOLE.items():
        whole = make()
        for _ in range(300 if soak else 2):
            damaged = bytearray(whole)
            for _ in range(chance.randrange(1, 30)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            source = folder.parent / f"damaged{extension}"
            source.write_bytes(damaged)
            format = ACCEPTED_BY_NAME[extension]
            make_it = processor.make_images if format.kind is MediaKind.IMAGE else processor.make_poster
            with suppress(MediaError):
                assert (await make_it(source, format, folder)).files
            with suppress(MediaError):
                await processor.find_motion_video(source, format)
    sound = folder.parent / "sound.jpg"
    sound.write_bytes(WHOLE[".jpg"]())
    assert (await processor.make_images(sound, ACCEPTED_BY_NAME[".jpg"], folder)).width == 300
