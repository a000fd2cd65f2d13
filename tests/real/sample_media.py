"""Creates small, unique photos and videos with Pillow and ffmpeg."""

from __future__ import annotations

import io
import secrets
import subprocess
from functools import lru_cache
from pathlib import Path

from PIL import Image

from tests.real.archive_programs import video_program

_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MicroVideo="1" GCamera:MicroVideoVersion="1"
 GCamera:MicroVideoOffset="{offset}"/></rdf:RDF></x:xmpmeta>"""


def make_jpeg(width: int = 64, height: int = 48) -> bytes:
    """Blocks of random colours."""
    small = Image.frombytes("RGB", (8, 6), secrets.token_bytes(8 * 6 * 3))
    out = io.BytesIO()
    small.resize((width, height), Image.Resampling.NEAREST).save(out, "JPEG", quality=90)
    return out.getvalue()


def make_video(folder: Path, *, playable: bool = False) -> bytes:
    """A test pattern of one second: an MP4 that browsers play if `playable`, else one that they do not."""
    return _video(folder, playable) + _free_box()


def make_motion_photo(folder: Path) -> tuple[bytes, bytes]:
    """A motion photo in Google's format, and its video."""
    part = make_video(folder, playable=True)
    photo = make_jpeg()
    xmp = _XMP_HEAD + _XMP.format(offset=len(part)).encode()
    segment = b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp
    return photo[:2] + segment + photo[2:] + part, part


def make_long_video(folder: Path) -> bytes:
    """A video of 40 seconds, which takes a while to transcode."""
    return _encoded(folder / "long.mp4", "testsrc2=size=960x540:rate=30:duration=40", ["mpeg4", "-q:v", "3"])


@lru_cache(maxsize=2)
def _video(folder: Path, playable: bool) -> bytes:
    codec = ["libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"] if playable else ["mpeg4"]
    return _encoded(folder / f"pattern-{playable}.mp4", "testsrc=size=160x120:rate=10:duration=1", codec)


def _encoded(target: Path, pattern: str, codec: list[str]) -> bytes:
    drawn = ["-f", "lavfi", "-i", pattern]
    command = [
        video_program("ffmpeg"),
        "-nostdin",
        "-v",
        "error",
        "-y",
        *drawn,
        "-c:v",
        *codec,
        "-threads",
        "1",
        str(target),
    ]
    subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)
    return target.read_bytes()


def _free_box() -> bytes:
    """A box with random content that players ignore; it makes the file unique."""
    return (40).to_bytes(4, "big") + b"free" + secrets.token_bytes(32)
