"""Encoding by hardware: command lines, what the sandbox opens, and what happens where the hardware fails. No hardware takes part."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.config import Settings, TranscodeEncoder
from app.formats import find_format
from app.media.errors import DecodeFailed
from app.media.processor import MediaProcessor
from app.media.sandbox.result_parsing import parse_output
from app.media.sandbox.sandbox import Sandbox
from app.media.video.browser_support import StreamAction, TranscodePlan
from app.media.video.encoders import SOFTWARE_ENCODER, build_trial_command, find_encoder, list_attempts
from tests.media.sandbox_scripts import LIMITS, script_request
from tests.media.test_video_processor import probed
from tests.media.video_files import make_video
from tests.real.archive_programs import video_program

NODE = Path("/dev/dri/renderD129")
COPY, ENCODE = StreamAction.COPY, StreamAction.ENCODE
FAILING = """#!/bin/sh
case "$*" in
  *lavfi*) exit {trial} ;;
  *h264_*) {encoding} ;;
esac
exec {ffmpeg} "$@"
"""
"""An ffmpeg whose hardware fails at the trial, or at a video."""


@pytest.mark.parametrize(
    ("name", "codec", "device"),
    [("vaapi", "h264_vaapi", "/dev/dri/renderD129"), ("qsv", "h264_qsv", "child_device=/dev/dri/renderD129"), ("nvenc", "h264_nvenc", "")],
)  # fmt: skip
def test_the_device_is_that_of_the_settings(name: TranscodeEncoder, codec: str, device: str) -> None:
    encoder = find_encoder(name, NODE)
    command = build_trial_command("/usr/bin/ffmpeg", encoder)
    assert command[command.index("-c:v") + 1] == codec
    assert device in " ".join(command[: command.index("-i")])
    assert "renderD128" not in " ".join((*command, *encoder.devices))
    assert (str(NODE) in encoder.devices) == bool(device)
    assert not any(path.startswith("/sys") for path in encoder.devices), "only devices may be written"


def test_what_is_tried_in_turn() -> None:
    hardware = find_encoder("vaapi", NODE)
    encoded, copied = TranscodePlan(ENCODE, COPY), TranscodePlan(COPY, COPY)

    def order(plan: TranscodePlan, name: TranscodeEncoder) -> list[tuple[str, StreamAction | None]]:
        return [(attempt.codec, attempt.plan.audio) for attempt in list_attempts(plan, find_encoder(name, NODE))]

    assert order(encoded, "libx264") == [("libx264", COPY)]
    assert order(encoded, "vaapi") == [("h264_vaapi", COPY), ("libx264", COPY)]
    assert order(copied, "libx264") == [("copy", COPY), ("libx264", ENCODE)]
    assert order(copied, "vaapi") == [("copy", COPY), ("h264_vaapi", ENCODE), ("libx264", ENCODE)]
    assert list_attempts(encoded, hardware)[-1].encoder is SOFTWARE_ENCODER


async def test_the_sandbox_opens_only_the_devices_of_the_encoder(sandbox: Sandbox, tmp_path: Path) -> None:
    script = "open('/dev/zero', 'wb').write(b'0'); print('written')"
    request = script_request(script, tmp_path)
    with pytest.raises(DecodeFailed, match="Permission"):
        parse_output(await sandbox.run(request))
    allowed = replace(request, devices=("/dev/zero", "/dev/absent"))
    assert parse_output(await sandbox.run(allowed)).strip() == "written"


async def test_memory_is_limited_where_the_address_space_is_not(sandbox: Sandbox, tmp_path: Path) -> None:
    """What NVIDIA's driver reserves is not used: a mapping without access counts for nothing, bytes do."""
    limits = replace(LIMITS, address_space=1 << 46)
    reserve = (
        "import mmap; mmap.mmap(-1, 1 << 40, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0); print('reserved')"
    )
    assert parse_output(await sandbox.run(script_request(reserve, tmp_path, limits=limits))).strip() == "reserved"
    use = f"bytearray({LIMITS.memory}); print('used')"
    with pytest.raises(DecodeFailed, match="MemoryError"):
        parse_output(await sandbox.run(script_request(use, tmp_path, limits=limits)))


@pytest.mark.parametrize(
    ("trial", "encoding", "told"),
    [
        (1, "exit 1", "the hardware encoder does not work: videos are encoded by libx264"),
        (0, "exit 1", "a video is made playable in another way"),
        (0, "kill -SEGV $$", "a video is made playable in another way"),
    ],
    ids=["trial", "video", "crash"],
)
async def test_libx264_encodes_what_the_hardware_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: int, encoding: str, told: str
) -> None:
    programs, folder = tmp_path / "programs", tmp_path / "results"
    for each in (programs, folder):
        each.mkdir()
    script = FAILING.format(trial=trial, encoding=encoding, ffmpeg=video_program("ffmpeg"))
    (programs / "ffmpeg").write_text(script)
    (programs / "ffmpeg").chmod(0o755)
    (programs / "ffprobe").symlink_to(video_program("ffprobe"))
    source = tmp_path / "film.avi"
    source.write_bytes(make_video(".avi", "-c:v", "mpeg4", sound=False))
    format = find_format(source.name)
    assert format is not None

    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    settings = Settings(MEDIAVAULT_TRANSCODE_ENCODER="nvenc", MEDIAVAULT_MEDIA_SECONDS=60)  # pyright: ignore[reportCallIssue]
    with capture_logs() as lines:
        async with MediaProcessor(settings).running() as processor:
            playable = await processor.make_playable(source, format, folder)

    assert playable is not None
    assert probed(playable.path)["video"]["codec_name"] == "h264"
    assert [line["event"] for line in lines if line["log_level"] in ("warning", "info")].count(told) == 1
