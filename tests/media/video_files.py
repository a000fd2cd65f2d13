"""Creates videos with ffmpeg. Each is created once in a process."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.media.photo_files import make_quarters
from tests.real.archive_programs import video_program

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=10:duration={seconds}")
SOUND = ("-f", "lavfi", "-i", "sine=duration={seconds}")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
AAC = ("-c:a", "aac")
QUARTERED = "quarters"
"""The picture of `photo_files.make_quarters`, at 640 x 480, in HD colours (BT.709) if `options` say so, else in SD colours."""


@cache
def make_video(extension: str, *options: str, seconds: float = 1, picture: str = "", sound: bool = True) -> bytes:
    """A video of `picture` (a filter of ffmpeg, or `QUARTERED`; a test pattern of 320 x 240 without one); H.264 and AAC unless
    `options` say otherwise."""
    audio_input = tuple(part.format(seconds=seconds) for part in SOUND) if sound else ()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, f"film{extension}")
        if picture == QUARTERED:
            make_quarters().save(Path(folder, "still.bmp"))
            video_input = ("-loop", "1", "-r", "10", "-t", str(seconds), "-i", str(Path(folder, "still.bmp")))
            matrix = "bt709" if "bt709" in options else "bt601"
            scale = f"scale=out_color_matrix={matrix}:out_range=tv:flags=accurate_rnd"
            # ffmpeg 7 writes the colours of the frames into the file, not those of the options.
            set_colours = (
                ",setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709" if matrix == "bt709" else ""
            )
            options = ("-vf", f"{scale}{set_colours}", *options)
        else:
            video_input = (
                ("-f", "lavfi", "-i", picture) if picture else tuple(part.format(seconds=seconds) for part in PICTURE)
            )
        command = [
            video_program("ffmpeg"),
            "-v",
            "error",
            *video_input,
            *audio_input,
            *(options or (*H264, *AAC)),
            "-y",
            str(target),
        ]
        subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)
        return target.read_bytes()
