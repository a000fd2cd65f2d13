"""H.264 encoders that ffmpeg may use for playable videos: options, devices, a trial whether one works, and which are tried in turn. Pure.

Each hardware encoder takes decoded frames from memory, so decoding and filters are the same for all. Constant quality is asked for in each
encoder's own unit (see `ffmpeg -h encoder=h264_vaapi` and the like).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from app.config import TranscodeEncoder
from app.media.errors import DecodeFailed, LimitExceeded, MediaError, WorkerCrashed
from app.media.sandbox.messages import SandboxRequest
from app.media.video.browser_support import StreamAction, TranscodePlan

RENDER_NODE = "{render_node}"
"""Stands for the path of the device in options."""


@dataclass(frozen=True, slots=True)
class VideoEncoder:
    """`codec`: ffmpeg's name. `device_options` stand before the input, `upload_filters` after all others. `devices` may be
    read and written in the sandbox, where they exist, `readable` may be read. `needs_address_space`: the driver reserves more of it than there
    is memory. The memory that is used stays limited."""

    codec: str
    quality_options: tuple[str, ...]
    device_options: tuple[str, ...] = ()
    upload_filters: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    needs_address_space: bool = False

    def permit(self, request: SandboxRequest) -> SandboxRequest:
        """The request, with the devices and the address space that the encoder needs."""
        address_space = _DRIVER_ADDRESS_SPACE if self.needs_address_space else None
        return replace(
            request,
            limits=replace(request.limits, address_space=address_space),
            readable=(*request.readable, *self.readable),
            devices=self.devices,
        )


_DRIVER_ADDRESS_SPACE = 1 << 46

_DRM_FILES = ("/dev/dri", "/sys/dev/char", "/sys/devices")
"""libdrm finds a device's driver there."""

SOFTWARE_ENCODER = VideoEncoder("libx264", ("-preset", "veryfast", "-crf", "23"))
ENCODERS: Mapping[TranscodeEncoder, VideoEncoder] = MappingProxyType(
    {
        "libx264": SOFTWARE_ENCODER,
        "vaapi": VideoEncoder(
            "h264_vaapi",
            ("-qp", "24"),
            ("-vaapi_device", RENDER_NODE),
            ("format=nv12", "hwupload"),
            (RENDER_NODE,),
            _DRM_FILES,
        ),
        "qsv": VideoEncoder(
            "h264_qsv",
            ("-preset", "veryfast", "-global_quality", "24"),
            ("-init_hw_device", f"qsv=hw,child_device={RENDER_NODE}", "-filter_hw_device", "hw"),
            ("format=nv12",),
            (RENDER_NODE,),
            _DRM_FILES,
        ),
        "nvenc": VideoEncoder(
            "h264_nvenc",
            ("-preset", "p4", "-rc", "vbr", "-cq", "24", "-b:v", "0"),
            devices=("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"),
            readable=("/proc/driver/nvidia", "/sys/devices"),
            needs_address_space=True,
        ),
    }
)


def build_trial_command(ffmpeg: str, encoder: VideoEncoder) -> tuple[str, ...]:
    """Encode three frames of black, and keep nothing. Exits with status 0 only where driver, device and encoder work together."""
    filters = ("-vf", ",".join(encoder.upload_filters)) if encoder.upload_filters else ()
    return (
        ffmpeg, "-nostdin", "-hide_banner", "-v", "error", *encoder.device_options,
        "-f", "lavfi", "-i", "color=black:size=256x256:rate=10", "-frames:v", "3",
        *filters, "-c:v", encoder.codec, *encoder.quality_options, "-f", "null", "-",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TranscodeAttempt:
    """`failures`: exceptions after which the next attempt may succeed."""

    plan: TranscodePlan
    encoder: VideoEncoder
    failures: tuple[type[MediaError], ...] = (DecodeFailed,)

    @property
    def codec(self) -> str:
        return self.encoder.codec if self.plan.video is StreamAction.ENCODE else "copy"


def find_encoder(name: TranscodeEncoder, render_node: Path) -> VideoEncoder:
    encoder = ENCODERS[name]
    if RENDER_NODE not in encoder.devices:
        return encoder

    def fill(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(text.replace(RENDER_NODE, str(render_node)) for text in texts)

    return replace(encoder, device_options=fill(encoder.device_options), devices=fill(encoder.devices))


def list_attempts(plan: TranscodePlan, encoder: VideoEncoder) -> list[TranscodeAttempt]:
    """What to try, one after the other: a video that cannot be remuxed can often be encoded, and libx264 encodes what hardware refuses."""
    if plan.video is StreamAction.COPY:
        encoded = TranscodePlan(StreamAction.ENCODE, plan.audio and StreamAction.ENCODE)
        return [TranscodeAttempt(plan, SOFTWARE_ENCODER), *list_attempts(encoded, encoder)]
    software = TranscodeAttempt(plan, SOFTWARE_ENCODER)
    if encoder is SOFTWARE_ENCODER:
        return [software]
    return [TranscodeAttempt(plan, encoder, (DecodeFailed, LimitExceeded, WorkerCrashed)), software]
