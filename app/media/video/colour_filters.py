"""Builds the filters that scale a video and bring its colours to SDR as browsers and JPEG know it. Pure.

A file may describe its colours wrongly: reserved numbers, RGB's matrix on YUV, none at all. ffmpeg's filters fail on these, or pass them on,
so frames get a description that is known before the first filter, and again after the last.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.media.video.probe_output import VideoStream

_HIGH_DEFINITION = 720
_SCALE_MATRICES = {
    "bt709": "bt709",
    "smpte170m": "smpte170m",
    "bt470bg": "bt470",
    "fcc": "fcc",
    "smpte240m": "smpte240m",
    "bt2020nc": "bt2020",
}
"""The matrices of the filter `scale`, with its names."""

_ZSCALE_MATRICES = frozenset({*_SCALE_MATRICES, "ycgco", "gbr"})
_PLAYABLE_MATRICES = frozenset({"bt709", "smpte170m", "bt470bg"})
_PLAIN_PRIMARIES = frozenset({"bt709", "bt470m", "bt470bg", "smpte170m", "smpte240m"})
_WIDE_PRIMARIES = frozenset({"bt2020", "smpte431", "smpte432"})
_PLAIN_TRANSFERS = frozenset({"bt709", "bt470m", "bt470bg", "smpte170m", "smpte240m", "iec61966-2-1"})
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class _Colours:
    """ffmpeg's names of matrix, primaries and transfer characteristics."""

    matrix: str
    primaries: str
    transfer: str

    def build_filter(self, more: str = "") -> str:
        """The filter that describes frames so. It converts nothing."""
        return f"setparams=colorspace={self.matrix}:color_primaries={self.primaries}:color_trc={self.transfer}{more}"


_BT709 = _Colours("bt709", "bt709", "bt709")


def build_scale_filters(
    stream: VideoStream, width: int, height: int, *, has_zscale: bool, encode: bool
) -> tuple[str, ...]:
    """Filters to frames of `width` x `height` pixels in SDR: for an encoder (YUV 4:2:0, described) if `encode`, else of any format."""
    if has_zscale and stream.is_hdr:
        return (*_build_tone_mapping(stream, width, height), _BT709.build_filter(":range=tv"))
    if has_zscale and (_is_wide(stream) or stream.matrix == "ycgco"):
        return (*_build_conversion(stream, width, height), _BT709.build_filter(":range=tv"))
    given = _assume_colours(stream)
    matrix = given.matrix if given.matrix in _PLAYABLE_MATRICES else "bt709"
    describe = () if stream.is_rgb else (given.build_filter(),)
    scale = f"scale={width}:{height}:flags=lanczos+accurate_rnd+full_chroma_int:in_color_matrix={_SCALE_MATRICES[given.matrix]}"
    if not encode:
        return (*describe, scale)
    primaries = given.primaries if given.primaries in _PLAIN_PRIMARIES else _UNKNOWN
    transfer = given.transfer if given.transfer in _PLAIN_TRANSFERS else _UNKNOWN
    return (
        *describe,
        f"{scale}:out_color_matrix={_SCALE_MATRICES[matrix]}:out_range=tv",
        "format=yuv420p",
        _Colours(matrix, primaries, transfer).build_filter(":range=tv"),
    )


def _is_wide(stream: VideoStream) -> bool:
    return stream.primaries in _WIDE_PRIMARIES or stream.matrix in ("bt2020nc", "bt2020c")


def _assume_colours(stream: VideoStream) -> _Colours:
    """What the file says, and where that is missing or impossible, what players assume: BT.709 for high definition, else BT.601."""
    matrix = stream.matrix
    if stream.is_rgb or matrix not in _SCALE_MATRICES:
        matrix = "bt709" if min(stream.display_size) >= _HIGH_DEFINITION else "smpte170m"
    primaries = stream.primaries if stream.primaries in _PLAIN_PRIMARIES | _WIDE_PRIMARIES else _UNKNOWN
    transfer = stream.transfer if stream.transfer in _PLAIN_TRANSFERS else _UNKNOWN
    return _Colours(matrix, primaries, transfer)


def _build_tone_mapping(stream: VideoStream, width: int, height: int) -> tuple[str, ...]:
    """Scale down first, then map in linear light. Missing colour parameters default to BT.2020."""
    describe, parameters = _describe_for_zscale(stream, _Colours("bt2020nc", "bt2020", stream.transfer or "smpte2084"))
    return (
        *describe,
        f"zscale=w={width}:h={height}:filter=bicubic:{parameters}",
        f"zscale={parameters}:t=linear:npl=100",
        "format=gbrpf32le",
        "zscale=p=bt709",
        "tonemap=tonemap=hable:desat=0",
        "zscale=t=bt709:m=bt709:r=tv",
        "format=yuv420p",
    )


def _build_conversion(stream: VideoStream, width: int, height: int) -> tuple[str, ...]:
    """From a wide gamut, or a matrix that `scale` does not know, to BT.709."""
    transfer = stream.transfer if stream.transfer in _PLAIN_TRANSFERS else "bt709"
    primaries = stream.primaries or ("bt2020" if _is_wide(stream) else "bt709")
    describe, parameters = _describe_for_zscale(stream, _Colours("bt2020nc", primaries, transfer))
    return (
        *describe,
        f"zscale=w={width}:h={height}:filter=bicubic:{parameters}:m=bt709:p=bt709:t=bt709:r=tv",
        "format=yuv420p",
    )


def _describe_for_zscale(stream: VideoStream, assumed: _Colours) -> tuple[tuple[str, ...], str]:
    """The filters before `zscale`, and its parameters: what the file says where that is possible, else what is assumed."""
    primaries = stream.primaries if stream.primaries in _PLAIN_PRIMARIES | _WIDE_PRIMARIES else assumed.primaries
    matrix = "gbr" if stream.is_rgb else stream.matrix
    if matrix not in _ZSCALE_MATRICES or (matrix == "gbr" and not stream.is_rgb):
        matrix = assumed.matrix
    colours = _Colours(matrix, primaries, assumed.transfer)
    describe = () if stream.is_rgb else (colours.build_filter(),)
    return describe, f"tin={colours.transfer}:min={colours.matrix}:pin={colours.primaries}"
