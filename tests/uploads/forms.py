"""Builds multipart bodies by hand, so that they can also be malformed."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from app.uploads.multipart_reader import FormField, MultipartReader

BOUNDARY = "----mediavault-test-7MA4YWxkTrZu0gW"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
FILES = frozenset(("assetData", "sidecarData"))
DATES = [("fileCreatedAt", "2024-05-06T07:08:09.123Z"), ("fileModifiedAt", "2024-05-06T07:08:10Z")]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file part; `filename` goes into the header unchanged."""

    name: str
    filename: str
    data: bytes


FormPart = tuple[str, str] | Upload


def part(disposition: str | bytes, data: bytes, *headers: str) -> bytes:
    """One part with its leading boundary, without the line end after its data."""
    raw = disposition.encode() if isinstance(disposition, str) else disposition
    lines = [f"--{BOUNDARY}".encode(), b"Content-Disposition: " + raw, *(line.encode() for line in headers), b"", data]
    return b"\r\n".join(lines)


def body(parts: Iterable[FormPart]) -> bytes:
    """A complete body."""
    return close_form(*(encode_part(one) for one in parts))


def close_form(*parts: bytes) -> bytes:
    return b"".join(one + b"\r\n" for one in parts) + f"--{BOUNDARY}--\r\n".encode()


def encode_part(one: FormPart) -> bytes:
    if isinstance(one, Upload):
        disposition = f'form-data; name="{one.name}"; filename="{one.filename}"'
        return part(disposition, one.data, "Content-Type: application/octet-stream")
    return part(f'form-data; name="{one[0]}"', one[1].encode())


def split_at(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`data`, split at these offsets."""
    edges = [0, *sorted(set(cuts)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if start < end]


async def stream(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read(chunks: Iterable[bytes], content_type: str | None = CONTENT_TYPE) -> list[tuple[str, str | None, bytes]]:
    """All parts as (name, file name, bytes); fields have no file name."""
    found: list[tuple[str, str | None, bytes]] = []
    async for one in MultipartReader(content_type, stream(chunks), file_fields=FILES).iter_parts():
        if isinstance(one, FormField):
            found.append((one.name, None, one.value))
        else:
            found.append((one.name, one.filename, b"".join([bytes(chunk) async for chunk in one.chunks])))
    return found
