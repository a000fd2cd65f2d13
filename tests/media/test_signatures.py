"""What a file is by its first bytes, how large things become, and what the end of a process means: tables."""

from __future__ import annotations

import json
import signal

import pytest

from app.formats import supported
from app.media.errors import Crashed, DecodeFailed, DiskFull, MediaError, MissingTool, TimedOut, TooLarge, one_line
from app.media.outcomes import output_of, result_of
from app.media.signatures import Content, recognise
from app.media.sizes import bounded, square_around
from app.media.work import Ended, How

PACKETS = (b"G" + bytes(187)) * 5
TIMED_PACKETS = (bytes(4) + b"G" + bytes(187)) * 5


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    brands = major + bytes(4) + b"".join(compatible)
    return (8 + len(brands)).to_bytes(4, "big") + b"ftyp" + brands + bytes(100)


@pytest.mark.parametrize(
    ("head", "extension", "content"),
    [
        (b"\xff\xd8\xff\xe1", ".jpg", Content.JPEG),
        (b"\xff\xd8\xff\xe1", ".png", Content.JPEG),
        (b"\xff\xd8\xff\xe1", ".heic", Content.JPEG),
        (b"\xff\xd8\xff\xe1", ".mp4", None),
        (b"\xff\xd8\xff\xe1", ".cr2", Content.JPEG),
        (b"RIFF\0\0\0\0WEBPVP8 ", ".webp", Content.WEBP),
        (b"RIFF\0\0\0\0AVI LIST", ".webp", None),
        (b"RIFF\0\0\0\0AVI LIST", ".avi", Content.AVI),
        (b"II*\0\x08\0\0\0", ".tif", Content.TIFF),
        (b"II*\0\x08\0\0\0", ".nef", Content.RAW),
        (b"II*\0\x08\0\0\0", ".jpg", Content.TIFF),
        (b"FUJIFILMCCD-RAW ", ".raf", Content.RAW),
        (b"whatever it is", ".k25", Content.RAW),
        (b"whatever it is", ".jpg", None),
        (ftyp(b"heic", b"mif1", b"heic"), ".heic", Content.HEIF),
        (ftyp(b"mif1", b"avif", b"mif1"), ".avif", Content.AVIF),
        (ftyp(b"mif1", b"heic"), ".jpg", Content.HEIF),
        (ftyp(b"crx ", b"isom"), ".cr3", Content.RAW),
        (ftyp(b"isom", b"mp42"), ".mp4", Content.MOV),
        (ftyp(b"qt  "), ".mov", Content.MOV),
        (ftyp(b"isom"), ".jpg", None),
        (ftyp(b"heic"), ".mp4", None),
        (b"\0\0\0\x08wide\0\0\0\0mdat", ".mov", Content.MOV),
        (b"\x1a\x45\xdf\xa3", ".webm", Content.MATROSKA),
        (PACKETS, ".mts", Content.MPEG_TS),
        (TIMED_PACKETS, ".m2ts", Content.MPEG_TS),
        (b"cut out of a stream" + PACKETS, ".m2t", Content.MPEG_TS),
        (b"\0\0\x01\xba", ".vob", Content.MPEG_PS),
        (b"#EXTM3U\n", ".mp4", None),
        (b"ffconcat version 1.0\n", ".mkv", None),
        (b"<svg xmlns=", ".svg", None),
        (b"", ".jpg", None),
        (b"", ".mp4", None),
    ],
)
def test_what_a_file_is(head: bytes, extension: str, content: Content | None) -> None:
    format = supported(f"file{extension}")
    assert format is not None
    assert recognise(head, format) is content


@pytest.mark.parametrize(
    ("size", "edges", "expected"),
    [
        ((4000, 3000), (1440, 65_500), (1920, 1440)),
        ((100, 50), (1440, 65_500), (100, 50)),
        ((100_000, 1440), (1440, 65_500), (65_500, 943)),
        ((1, 100_000), (250, 16_383), (1, 16_383)),
    ],
)
def test_sizes(size: tuple[int, int], edges: tuple[int, int], expected: tuple[int, int]) -> None:
    assert bounded(*size, *edges) == expected


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        (None, (400, 300), (50, 0, 350, 300)),
        ((0.25, 0.25, 0.5, 0.5), (400, 400), (100, 100, 200, 200)),
        ((0.25, 0.4, 0.5, 0.5), (400, 400), (100, 130, 200, 230)),
        ((0.9, 0.9, 1.0, 1.0), (400, 400), (360, 360, 400, 400)),
        ((0.0, 0.0, 1.0, 1.0), (400, 300), (50, 0, 350, 300)),
        ((-5.0, -5.0, -4.0, -4.0), (400, 300), (0, 0, 1, 1)),
        ((0.0, 0.45, 0.0001, 0.5), (10, 10), (0, 4.25, 1, 5.25)),
    ],
)
def test_squares(
    box: tuple[float, float, float, float] | None, size: tuple[int, int], expected: tuple[float, float, float, float]
) -> None:
    assert square_around(box, *size) == pytest.approx(expected)


def said(**answer: object) -> Ended:
    return Ended(How.EXITED, 0, json.dumps(answer), "")


@pytest.mark.parametrize(
    ("ended", "error"),
    [
        (said(error="TooLarge", reason="so many pixels"), TooLarge),
        (said(error="MissingTool", reason="rawpy"), MissingTool),
        (said(error="SystemExit", reason="no error of ours"), Crashed),
        (said(result="no object"), Crashed),
        (said(), Crashed),
        (Ended(How.EXITED, 70, "", "a traceback"), Crashed),
        (Ended(How.EXITED, 0, "[]", ""), Crashed),
        (Ended(How.EXITED, 0, '{"result":', ""), Crashed),
        (Ended(How.KILLED, signal.SIGSEGV, "", ""), Crashed),
        (Ended(How.KILLED, 99, "", ""), Crashed),
        (Ended(How.KILLED, signal.SIGXCPU, "", ""), TooLarge),
        (Ended(How.TIMED_OUT, 0, "", ""), TimedOut),
        (Ended(How.TALKED_TOO_MUCH, 0, "", ""), TooLarge),
    ],
)
def test_how_calls_end(ended: Ended, error: type[MediaError]) -> None:
    with pytest.raises(error):
        result_of(ended)


@pytest.mark.parametrize(
    ("errors", "error", "reason"),
    [
        ("/a/b.mp4: Invalid data found\n", DecodeFailed, "it cannot be decoded: Invalid data found"),
        ("[mov] odd\nError opening /a/b.mp4\n\n", DecodeFailed, "it cannot be decoded: Error opening the file"),
        ("av_interleaved_write_frame(): No space left on device\nlast", DiskFull, "there is no room for the results"),
        ("x: Cannot allocate memory", TooLarge, "it needs more memory than is permitted"),
        ("", DecodeFailed, "it cannot be decoded: exit status 1"),
    ],
)
def test_how_programs_end(errors: str, error: type[MediaError], reason: str) -> None:
    with pytest.raises(error) as caught:
        output_of(Ended(How.EXITED, 1, "", errors), "/a/b.mp4")
    assert caught.value.reason == reason


def test_a_reason_is_one_short_line() -> None:
    assert one_line("a\n\tb\0c\x1b[31m  d") == "a b c [31m d"
    assert len(one_line("x" * 10_000)) == 300
