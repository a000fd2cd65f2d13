"""Detects by their first bytes what newly found files are: a name may lie. Blocking: run it in a thread."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from app.catalog.schema.library_records import ScannedFile
from app.catalog.schema.records import AssetType
from app.formats import MediaKind, find_format
from app.formats.signatures import find_content_format
from app.storage.local.file_reader import to_signed_inode

_HEAD_BYTES = 4096
"""One page. Formats that are recognised only further on keep the type of their name until they are processed."""

_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def detect_contents(files: Iterable[ScannedFile]) -> list[ScannedFile]:
    """The files with the type and MIME type of their content. A file that cannot be read, or that is another one by now, keeps those of its
    name: processing reports the error, or the next scan finds the change."""
    return [_detect_content(file) for file in files]


def _detect_content(file: ScannedFile) -> ScannedFile:
    named = find_format(file.listed[0])
    if named is None:
        return file
    found = find_content_format(_read_head(file), named)
    if found.mime_type == file.mime_type:
        return file
    type_ = AssetType.VIDEO if found.kind is MediaKind.VIDEO else AssetType.IMAGE
    return replace(file, type=type_, mime_type=found.mime_type)


def _read_head(file: ScannedFile) -> bytes:
    _, device, inode, _, _ = file.listed
    try:
        descriptor = os.open(file.path, _OPEN_FLAGS)
    except OSError:
        return b""
    try:
        status = os.fstat(descriptor)
        is_same = (status.st_dev, to_signed_inode(status)) == (device, inode)
        return os.pread(descriptor, _HEAD_BYTES, 0) if is_same else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)
