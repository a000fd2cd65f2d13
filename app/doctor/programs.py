"""Checks ffmpeg and ffprobe: location, version, known vulnerabilities, and the filters, encoders and demuxers that are used."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Sequence

from app.config import Settings
from app.doctor.findings import ReportSection
from app.formats.signatures import DetectedFormat
from app.media.errors import to_one_line
from app.media.video.encoders import SOFTWARE_ENCODER, build_trial_command, find_encoder
from app.media.video.ffmpeg_location import find_ffmpeg

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
    (
        content.value
        for content in (
            DetectedFormat.MOV,
            DetectedFormat.MATROSKA,
            DetectedFormat.AVI,
            DetectedFormat.MPEG_TS,
            DetectedFormat.MPEG_PS,
        )
    ),
    "such videos get no pictures",
)
_TONE_MAPPING = frozenset({"zscale", "tonemap"})
_FIXED_IN_8 = (8, 1, 3)


async def check_programs(section: ReportSection, settings: Settings) -> None:
    programs = await asyncio.to_thread(find_ffmpeg)
    if programs is None:
        hint = "install ffmpeg (Debian: apt-get install ffmpeg), or pip install mediavault[ffmpeg]"
        section.warn("ffmpeg", "is not installed: videos are kept and served, but not shown or made playable", hint)
        return
    ffmpeg, ffprobe = programs
    try:
        versions = [await _run_program(program, "-version") for program in (ffmpeg, ffprobe)]
        filters, encoders, demuxers = [
            _parse_names(await _run_program(ffmpeg, option)) for option in ("-filters", "-encoders", "-demuxers")
        ]
    except (OSError, subprocess.SubprocessError) as error:
        section.fail(
            "ffmpeg", f"{ffmpeg} does not run: {type(error).__name__}", "is it whole, and made for this machine?"
        )
        return
    _report_version(section, ffmpeg, versions[0])
    if _parse_version(versions[0]) != _parse_version(versions[1]):
        section.warn("ffprobe", f"is of another version: {_parse_version(versions[1])}", "take both from one place")
    _report_missing(section, "filters", _FILTERS, filters)
    if filters >= _TONE_MAPPING:
        section.ok("HDR", "zscale and tonemap are there")
    else:
        section.warn(
            "HDR", "no zscale or no tonemap: HDR videos look pale", "an ffmpeg with libzimg has them, such as Debian's"
        )
    _report_missing(section, "encoders", _ENCODERS, encoders)
    await _check_hardware_encoder(section, ffmpeg, settings)
    _report_missing(section, "demuxers", _DEMUXERS, {name for names in demuxers for name in names.split(",")})


def find_vulnerability(version: str) -> str:
    """A known vulnerability of this version, or "". A version with a distribution's suffix has none: distributions backport fixes."""
    upstream = _UPSTREAM.match(version)
    if upstream is None:
        return ""
    numbers = tuple(int(number or 0) for number in upstream.groups())
    if numbers[0] == _FIXED_IN_8[0] and numbers < _FIXED_IN_8:
        return "CVE-2026-107697, fixed in 8.1.3"
    return ""


def _report_version(section: ReportSection, program: str, text: str) -> None:
    version = _parse_version(text)
    numbers = _NUMBERS.match(version)
    if fault := find_vulnerability(version):
        section.warn(
            "ffmpeg", f"{program}, {version}: {fault}", "install a newer one; files are opened in a sandbox meanwhile"
        )
    elif numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        section.fail("ffmpeg", f"{program}, {version}", f"{OLDEST[0]}.{OLDEST[1]} or newer is needed")
    else:
        section.ok("ffmpeg", f"{program}, {version}")


async def _check_hardware_encoder(section: ReportSection, ffmpeg: str, settings: Settings) -> None:
    encoder = find_encoder(settings.transcode_encoder, settings.transcode_device)
    if encoder is SOFTWARE_ENCODER:
        return
    try:
        await asyncio.to_thread(_run, build_trial_command(ffmpeg, encoder))
    except subprocess.CalledProcessError as error:
        reason = to_one_line(error.stderr.decode("utf-8", "replace"))
    except (OSError, subprocess.SubprocessError) as error:
        reason = type(error).__name__
    else:
        section.ok("hardware encoder", f"{encoder.codec} works")
        return
    hint = "check the driver, the device and who may use it, or set MEDIAVAULT_TRANSCODE_ENCODER=libx264"
    section.warn("hardware encoder", f"{encoder.codec} does not work, libx264 is used: {reason}", hint)


def _report_missing(section: ReportSection, kind: str, consequences: dict[str, str], available: set[str]) -> None:
    missing = {name: consequence for name, consequence in consequences.items() if name not in available}
    if missing:
        section.fail(
            kind,
            "; ".join(f"no {name}: {consequence}" for name, consequence in missing.items()),
            "install another ffmpeg",
        )
    else:
        section.ok(kind, ", ".join(consequences))


def _parse_version(text: str) -> str:
    match = _VERSION.match(text)
    return match[1] if match else text.partition("\n")[0][:60]


def _parse_names(text: str) -> set[str]:
    """The second column of the lists that ffmpeg prints, which holds the names."""
    return {words[1] for line in text.splitlines() if len(words := line.split()) > 1}


async def _run_program(program: str, option: str) -> str:
    command = (program, "-hide_banner", option) if option != "-version" else (program, option)
    return await asyncio.to_thread(_run, command)


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(  # noqa: S603 - the program was looked for by name
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_SECONDS, check=True
    )
    return done.stdout.decode("utf-8", "replace")
