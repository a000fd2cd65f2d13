"""Rows of Immich's assets become ours: what is taken over of a checksum."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from app.immich.media_roots import FoundFile
from app.immich.problems import ProblemKind
from app.immich.source.records import SourceAsset
from app.immich.source.rows import build_asset
from app.immich.source.schema import build_schema
from app.immich.translation import translate_asset

PATH, SIZE = "/data/upload/a.jpg", 100
DAY = datetime(2020, 1, 1, tzinfo=UTC)
SHA1 = hashlib.sha1(b"what Immich took in").digest()
REQUIRED = [
    *(("user", name) for name in ("id", "email")),
    *(
        ("asset", name)
        for name in ["id", "ownerId", "type", "originalPath", "originalFileName", "fileCreatedAt", "checksum"]
    ),
    *(("asset_file", name) for name in ("assetId", "type", "path")),
]


def make_asset(**values: Any) -> SourceAsset:
    schema = build_schema(REQUIRED)
    row: dict[str, Any] = dict.fromkeys(schema.list_read_columns("asset"))
    row |= {f"exif.{name}": None for name in schema.list_read_columns("asset_exif")}
    row |= {
        "id": UUID(int=1),
        "ownerId": UUID(int=2),
        "type": "IMAGE",
        "originalPath": PATH,
        "originalFileName": "a.jpg",
    }
    row |= {"fileCreatedAt": DAY, "checksum": SHA1, "exif.assetId": UUID(int=1), "exif.fileSizeInByte": SIZE}
    return build_asset(row | values)


@pytest.mark.parametrize(
    ("values", "expected", "problem"),
    [
        ({}, SHA1, None),
        ({"exif.fileSizeInByte": None}, SHA1, None),
        ({"exif.fileSizeInByte": SIZE + 1}, None, ProblemKind.SIZE_DIFFERS),
        ({"checksum": b"abc"}, None, ProblemKind.INVALID_CHECKSUM),
        ({"checksumAlgorithm": "sha1-path"}, None, ProblemKind.PATH_CHECKSUM),
        ({"isExternal": True}, None, ProblemKind.PATH_CHECKSUM),
    ],
)
def test_an_asset_has_the_checksum_of_the_bytes_that_are_there(
    values: dict[str, Any], expected: bytes | None, problem: ProblemKind | None
) -> None:
    """Otherwise a whole photo would be refused as a duplicate of one whose bytes are nowhere."""
    translated = translate_asset(make_asset(**values), {PATH: FoundFile(PATH, SIZE, 1, 2, 3)})
    assert translated.asset is not None
    assert (translated.asset.checksum, translated.asset.original.sha1) == (expected, expected)
    assert [kind for kind, _ in translated.problems] == ([] if problem is None else [problem])
