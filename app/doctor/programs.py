"""ffmpeg and ffprobe: where they are, which version, and whether they have the filters, encoders and demuxers that are used."""

from __future__ import annotations

import asyncio
import re
import subprocess

from app.doctor.findings import Area
from app.media.signatures import Content
from app.media.tools import find_programs

ANSWER_SECONDS = 20.0
OLDEST = (4, 3)
_VERSION = re.compile(r"^ff\w+ version n?(\S+)")
_UPSTREAM = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?$")
_NUMBERS = re.compile(r"(\d+)\.(\d+)")
_ENCODERS = {
    "libx264": "videos are not made playable",
    "aac": "sound is not made playable",
    "ppm": "videos get no pictures",
}
_FILTERS = {"scale": "nothing can be made of videos", "bwdif": "interlaced video stays so"}
_DEMUXERS = dict.fromkeys(
    (content.value for content in (Content.MOV, Content.MATROSKA, Content.AVI, Content.MPEG_TS, Content.MPEG_PS)),
    "such videos get no pictures",
)
_TONE_MAPPING = frozenset({"zscale", "tonemap"})
_FIXED_IN_8 = (8, 1, 3)


async def check_programs(area: Area) -> None:
    programs = await asyncio.to_thread(find_programs)
    if programs is None:
        hint = "install ffmpeg (Debian: apt-get install ffmpeg), or pip install mediavault[ffmpeg]"
        area.warn("ffmpeg", "is not installed: videos are kept and served, but not shown or made playable", hint)
        return
    ffmpeg, ffprobe = programs
    try:
        versions = [await _output(program, "-version") for program in (ffmpeg, ffprobe)]
        filters, encoders, demuxers = [
            _names(await _output(ffmpeg, option)) for option in ("-filters", "-encoders", "-demuxers")
        ]
    except (OSError, subprocess.SubprocessError) as error:
        area.fail("ffmpeg", f"{ffmpeg} does not run: {type(error).__name__}", "is it whole, and made for this machine?")
        return
    _tell_version(area, ffmpeg, versions[0])
    if _version(versions[0]) != _version(versions[1]):
        area.warn("ffprobe", f"is of another version: {_version(versions[1])}", "take both from one place")
    _tell_lacking(area, "filters", _FILTERS, filters)
    if filters >= _TONE_MAPPING:
        area.ok("HDR", "zscale and tonemap are there")
    else:
        area.warn(
            "HDR", "no zscale or no tonemap: HDR videos look pale", "an ffmpeg with libzimg has them, such as Debian's"
        )
    _tell_lacking(area, "encoders", _ENCODERS, encoders)
    _tell_lacking(area, "demuxers", _DEMUXERS, {name for names in demuxers for name in names.split(",")})


def known_fault(version: str) -> str:
    """A known vulnerability of this version, or ""; a distribution's version (with a suffix) has the distribution's fixes."""
    upstream = _UPSTREAM.match(version)
    if upstream is None:
        return ""
    numbers = tuple(int(number or 0) for number in upstream.groups())
    if numbers[0] == _FIXED_IN_8[0] and numbers < _FIXED_IN_8:
        return "CVE-2026-107697, fixed in 8.1.3"
    return ""


def _tell_version(area: Area, program: str, text: str) -> None:
    version = _version(text)
    numbers = _NUMBERS.match(version)
    if fault := known_fault(version):
        area.warn(
            "ffmpeg", f"{program}, {version}: {fault}", "install a newer one; files are opened in a sandbox meanwhile"
        )
    elif numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        area.fail("ffmpeg", f"{program}, {version}", f"{OLDEST[0]}.{OLDEST[1]} or newer is needed")
    else:
        area.ok("ffmpeg", f"{program}, {version}")


def _tell_lacking(area: Area, what: str, wanted: dict[str, str], found: set[str]) -> None:
    lacking = {name: result for name, result in wanted.items() if name not in found}
    if lacking:
        area.fail(what, "; ".join(f"no {name}: {result}" for name, result in lacking.items()), "install another ffmpeg")
    else:
        area.ok(what, ", ".join(wanted))


def _version(text: str) -> str:
    match = _VERSION.match(text)
    return match[1] if match else text.partition("\n")[0][:60]


def _names(text: str) -> set[str]:
    """The second column of ffmpeg's lists."""
    return {words[1] for line in text.splitlines() if len(words := line.split()) > 1}


async def _output(program: str, option: str) -> str:
    command = [program, "-hide_banner", option] if option != "-version" else [program, option]

    def run() -> str:
        done = subprocess.run(  # noqa: S603 - the program was looked for by name
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_SECONDS, check=True
        )
        return done.stdout.decode("utf-8", "replace")

    return await asyncio.to_thread(run)
