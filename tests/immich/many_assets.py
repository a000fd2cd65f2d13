"""Fills an installation with many assets: rows that the database makes alone, and files that are hard links to few."""

from __future__ import annotations

import os
from pathlib import Path

from tests.immich.installation import CONTAINER, Installation

LINKS_OF_A_FILE = 50_000
"""Some file systems allow 65,000."""
FILES_OF_A_FOLDER = 2_000

_ASSETS = """
INSERT INTO asset (id, "ownerId", type, "originalPath", "originalFileName", "fileCreatedAt", "fileModifiedAt", "localDateTime", checksum,
    thumbhash, width, height)
SELECT md5('asset' || n)::uuid, %(owner)s, 'IMAGE', %(folder)s || n / %(files)s || '/' || n || '.jpg', 'IMG_' || n || '.jpg',
    timestamptz '2005-01-01 00:00+00' + n * interval '10 minutes', timestamptz '2005-01-01 00:00+00' + n * interval '10 minutes',
    timestamptz '2005-01-01 00:00+00' + n * interval '10 minutes', decode(md5('content' || n) || '00000000', 'hex'),
    decode(md5('hash' || n), 'hex'), 4000, 3000
FROM generate_series(0, %(count)s - 1) AS n
"""
_FILES = """
INSERT INTO asset_file ("assetId", type, path)
SELECT md5('asset' || n)::uuid, kind, made || n / %(files)s || '/' || n || '.jpg' FROM generate_series(0, %(count)s - 1) AS n,
    (VALUES ('preview', %(previews)s), ('thumbnail', %(thumbnails)s)) AS kinds(kind, made)
"""
_EXIF = """
INSERT INTO asset_exif ("assetId", make, model, "fileSizeInByte", "exifImageWidth", "exifImageHeight", "fNumber", iso, city, country,
    "dateTimeOriginal", latitude, longitude)
SELECT md5('asset' || n)::uuid, 'Canon', 'EOS 5D', %(size)s, 4000, 3000, 2.8, 200, 'Berlin', 'Germany',
    timestamptz '2005-01-01 00:00+00' + n * interval '10 minutes', 52.52, 13.4 FROM generate_series(0, %(count)s - 1) AS n
"""
CONTENT = b"x" * 200


def add_many(installation: Installation, count: int) -> None:
    """Add so many assets, each with an original, a preview and a thumbnail."""
    folders = {kind: f"{CONTAINER}/upload/{kind}/" for kind in ("original", "preview", "thumbnail")}
    values = {"owner": installation.users["ada"], "files": FILES_OF_A_FOLDER, "count": count, "size": len(CONTENT)}
    installation.execute_named(_ASSETS, {**values, "folder": folders["original"]})
    installation.execute_named(_EXIF, values)
    installation.execute_named(_FILES, {**values, "previews": folders["preview"], "thumbnails": folders["thumbnail"]})
    installation.execute("ANALYZE")
    for folder in folders.values():
        _link_many(installation.to_host(folder), count)


def _link_many(folder: Path, count: int) -> None:
    source = b""
    for number in range(count):
        if number % FILES_OF_A_FOLDER == 0:
            (folder / str(number // FILES_OF_A_FOLDER)).mkdir(parents=True)
        path = os.fsencode(folder / str(number // FILES_OF_A_FOLDER) / f"{number}.jpg")
        if number % LINKS_OF_A_FILE == 0:
            source = path
            with open(path, "wb") as file:  # noqa: PTH123 - a path of bytes
                file.write(CONTENT)
        else:
            os.link(source, path)
