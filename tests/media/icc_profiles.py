"""Builds an ICC profile of CMYK (ICC.1:2001-04) whose sixteen corners have given colours."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from tests.media.colour_reference import lab_of_srgb

Inks = tuple[int, int, int, int]


def build_cmyk_profile(colours: Mapping[Inks, tuple[int, int, int]]) -> bytes:
    """`colours`: the sRGB colour of each combination of full inks (0 or 1). Between them is interpolated in Lab."""
    corners = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    nodes = b"".join(_encode_lab(*lab_of_srgb(colours.get(corner, (0, 0, 0)))) for corner in corners)
    matrix = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x10000)
    linear = struct.pack(">HH", 0, 65535)
    table = (
        b"mft2" + struct.pack(">4x4B", 4, 3, 2, 0) + matrix + struct.pack(">HH", 2, 2) + linear * 4 + nodes + linear * 3
    )
    description = b"desc" + struct.pack(">4xI", 5) + b"Inks\0" + bytes(78)
    white = b"XYZ " + struct.pack(">4x3i", *_WHITE)
    return _assemble({b"desc": description, b"cprt": b"text\0\0\0\0none\0", b"wtpt": white, b"A2B0": table})


_WHITE = (63190, 65536, 54061)
"""D50, in units of 1/65536."""


def _encode_lab(lightness: float, a: float, b: float) -> bytes:
    return struct.pack(">3H", *(round(value) for value in (lightness * 652.8, (a + 128) * 256, (b + 128) * 256)))


def _assemble(tags: Mapping[bytes, bytes]) -> bytes:
    offset = 128 + 4 + 12 * len(tags)
    directory, content = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        directory += struct.pack(">4sII", name, offset + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    size = offset + len(content)
    header = struct.pack(">I4xI4s4s4s12x4s24x3i", size, 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp", *_WHITE)
    return header.ljust(128, b"\0") + directory + content
