"""Tables: formats by first bytes, sizes of derivatives, errors by a process's exit."""

from __future__ import annotations

import json
import signal

import pytest

from app.formats import find_format
from app.formats.signatures import DetectedFormat, detect_by_signature, find_content_format
from app.media.errors import (
    DecodeFailed,
    LimitExceeded,
    MediaDiskFull,
    MediaError,
    MissingTool,
    ProcessingTimedOut,
    WorkerCrashed,
    to_one_line,
)
from app.media.images.sizes import compute_square, fit_size
from app.media.sandbox.messages import ExitKind, SandboxResult
from app.media.sandbox.result_parsing import parse_output, parse_result

PACKETS = (b"G" + bytes(187)) * 5
TIMED_PACKETS = (bytes(4) + b"G" + bytes(187)) * 5


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    brands = major + bytes(4) + b"".join(compatible)
    return (8 + len(brands)).to_bytes(4, "big") + b"ftyp" + brands + bytes(100)


@pytest.mark.parametrize(
    ("head", "extension", "content"),
    [
        (b"\xff\xd8\xff\xe1", ".jpg", DetectedFormat.JPEG),
        (b"\xff\xd8\xff\xe1", ".png", DetectedFormat.JPEG),
        (b"\xff\xd8\xff\xe1", ".heic", DetectedFormat.JPEG),
        (b"\xff\xd8\xff\xe1", ".mp4", None),
        (b"\xff\xd8\xff\xe1", ".cr2", DetectedFormat.JPEG),
        (b"RIFF\0\0\0\0WEBPVP8 ", ".webp", DetectedFormat.WEBP),
        (b"RIFF\0\0\0\0AVI LIST", ".webp", None),
        (b"RIFF\0\0\0\0AVI LIST", ".avi", DetectedFormat.AVI),
        (b"II*\0\x08\0\0\0", ".tif", DetectedFormat.TIFF),
        (b"II*\0\x08\0\0\0", ".nef", DetectedFormat.RAW),
        (b"II*\0\x08\0\0\0", ".jpg", DetectedFormat.TIFF),
        (b"FUJIFILMCCD-RAW ", ".raf", DetectedFormat.RAW),
        (b"whatever it is", ".k25", DetectedFormat.RAW),
        (b"whatever it is", ".jpg", None),
        (ftyp(b"heic", b"mif1", b"heic"), ".heic", DetectedFormat.HEIF),
        (ftyp(b"mif1", b"avif", b"mif1"), ".avif", DetectedFormat.AVIF),
        (ftyp(b"mif1", b"heic"), ".jpg", DetectedFormat.HEIF),
        (ftyp(b"crx ", b"isom"), ".cr3", DetectedFormat.RAW),
        (ftyp(b"isom", b"mp42"), ".mp4", DetectedFormat.MOV),
        (ftyp(b"qt  "), ".mov", DetectedFormat.MOV),
        (ftyp(b"isom"), ".jpg", None),
        (ftyp(b"heic"), ".mp4", None),
        (b"\0\0\0\x08wide\0\0\0\0mdat", ".mov", DetectedFormat.MOV),
        (b"\x1a\x45\xdf\xa3", ".webm", DetectedFormat.MATROSKA),
        (PACKETS, ".mts", DetectedFormat.MPEG_TS),
        (TIMED_PACKETS, ".m2ts", DetectedFormat.MPEG_TS),
        (b"cut out of a stream" + PACKETS, ".m2t", DetectedFormat.MPEG_TS),
        (b"\0\0\x01\xba", ".vob", DetectedFormat.MPEG_PS),
        (b"#EXTM3U\n", ".mp4", None),
        (b"ffconcat version 1.0\n", ".mkv", None),
        (b"<svg xmlns=", ".svg", None),
        (b"", ".jpg", None),
        (b"", ".mp4", None),
    ],
)
def test_what_a_file_is(head: bytes, extension: str, content: DetectedFormat | None) -> None:
    format = find_format(f"file{extension}")
    assert format is not None
    assert detect_by_signature(head, format) is content


JPEG_HEAD = b"\xff\xd8\xff\xe1"
BMP_HEAD = b"BM" + bytes(12) + b"\x28\0\0\0"
MATROSKA_HEAD = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x88matroska"
WEBM_HEAD = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm"


@pytest.mark.parametrize(
    ("head", "extension", "expected"),
    [
        (JPEG_HEAD, ".jpg", ".jpg"),
        (JPEG_HEAD, ".jpeg", ".jpeg"),
        (JPEG_HEAD, ".insp", ".insp"),
        (JPEG_HEAD, ".heic", ".jpg"),
        (JPEG_HEAD, ".mov", ".jpg"),
        (b"\x89PNG\r\n\x1a\n", ".jpg", ".png"),
        (b"RIFF\0\0\0\0WEBPVP8 ", ".avi", ".webp"),
        (b"GIF89a", ".mp4", ".gif"),
        (BMP_HEAD, ".mpg", ".bmp"),
        (b"BM, said the text", ".mpg", ".mpg"),
        (ftyp(b"heic", b"mif1"), ".jpg", ".heic"),
        (ftyp(b"heic", b"mif1"), ".mov", ".heic"),
        (ftyp(b"mif1", b"heic"), ".hif", ".hif"),
        (ftyp(b"avif", b"mif1"), ".mp4", ".avif"),
        (ftyp(b"crx ", b"isom"), ".mov", ".cr3"),
        (ftyp(b"crx ", b"isom"), ".cr3", ".cr3"),
        (b"FUJIFILMCCD-RAW ", ".mp4", ".raf"),
        (b"II*\0\x08\0\0\0", ".nef", ".nef"),
        (b"II*\0\x08\0\0\0", ".jpg", ".tif"),
        (b"II*\0\x08\0\0\0", ".mp4", ".tif"),
        (b"whatever it is", ".k25", ".k25"),
        (ftyp(b"isom", b"mp42"), ".mov", ".mov"),
        (ftyp(b"isom", b"mp42"), ".jpg", ".mp4"),
        (ftyp(b"isom", b"mp42"), ".nef", ".mp4"),
        (ftyp(b"qt  "), ".heic", ".mov"),
        (ftyp(b"3gp4"), ".jpg", ".3gp"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", ".jpg", ".mov"),
        (MATROSKA_HEAD, ".mp4", ".mkv"),
        (WEBM_HEAD, ".jpg", ".webm"),
        (MATROSKA_HEAD, ".webm", ".webm"),
        (b"RIFF\0\0\0\0AVI LIST", ".mp4", ".avi"),
        (b"RIFF\0\0\0\0AVI LIST", ".webp", ".avi"),
        (PACKETS, ".mpg", ".mts"),
        (PACKETS, ".m2t", ".m2t"),
        (b"\0\0\x01\xba", ".jpg", ".mpg"),
        (b"FLV\x01", ".png", ".flv"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", ".jpg", ".wmv"),
        (b"<svg xmlns=", ".svg", ".svg"),
        (b"<svg xmlns=", ".mp4", ".mp4"),
        (b"#EXTM3U\n", ".mp4", ".mp4"),
        (b"whatever it is", ".jpg", ".jpg"),
        (b"", ".jpg", ".jpg"),
    ],
)
def test_what_a_file_is_taken_for(head: bytes, extension: str, expected: str) -> None:
    named = find_format(f"file{extension}")
    assert named is not None
    assert find_content_format(head, named) is find_format(f"file{expected}")


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
    assert fit_size(*size, *edges) == expected


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
    assert compute_square(box, *size) == pytest.approx(expected)


def worker_result(**answer: object) -> SandboxResult:
    return SandboxResult(ExitKind.EXITED, 0, json.dumps(answer), "")


@pytest.mark.parametrize(
    ("ended", "error"),
    [
        (worker_result(error="LimitExceeded", reason="so many pixels"), LimitExceeded),
        (worker_result(error="MissingTool", reason="rawpy"), MissingTool),
        (worker_result(error="SystemExit", reason="no error of ours"), WorkerCrashed),
        (worker_result(result="no object"), WorkerCrashed),
        (worker_result(), WorkerCrashed),
        (SandboxResult(ExitKind.EXITED, 70, "", "a traceback"), WorkerCrashed),
        (SandboxResult(ExitKind.EXITED, 0, "[]", ""), WorkerCrashed),
        (SandboxResult(ExitKind.EXITED, 0, '{"result":', ""), WorkerCrashed),
        (SandboxResult(ExitKind.KILLED, signal.SIGSEGV, "", ""), WorkerCrashed),
        (SandboxResult(ExitKind.KILLED, 99, "", ""), WorkerCrashed),
        (SandboxResult(ExitKind.KILLED, signal.SIGXCPU, "", ""), LimitExceeded),
        (SandboxResult(ExitKind.TIMED_OUT, 0, "", ""), ProcessingTimedOut),
        (SandboxResult(ExitKind.OUTPUT_TOO_LARGE, 0, "", ""), LimitExceeded),
    ],
)
def test_how_calls_end(ended: SandboxResult, error: type[MediaError]) -> None:
    with pytest.raises(error):
        parse_result(ended)


@pytest.mark.parametrize(
    ("errors", "error", "reason"),
    [
        ("/a/b.mp4: Invalid data found\n", DecodeFailed, "it cannot be decoded: Invalid data found"),
        ("[mov] odd\nError opening /a/b.mp4\n\n", DecodeFailed, "it cannot be decoded: Error opening the file"),
        (
            "av_interleaved_write_frame(): No space left on device\nlast",
            MediaDiskFull,
            "there is no room for the results",
        ),
        ("x: Cannot allocate memory", LimitExceeded, "it needs more memory than is permitted"),
        ("", DecodeFailed, "it cannot be decoded: exit status 1"),
    ],
)
def test_how_programs_end(errors: str, error: type[MediaError], reason: str) -> None:
    with pytest.raises(error) as caught:
        parse_output(SandboxResult(ExitKind.EXITED, 1, "", errors), "/a/b.mp4")
    assert caught.value.reason == reason


def test_a_reason_is_one_short_line() -> None:
    assert to_one_line("a\n\tb\0c\x1b[31m  d") == "a b c [31m d"
    assert len(to_one_line("x" * 10_000)) == 300
