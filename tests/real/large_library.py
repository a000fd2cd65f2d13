"""Multiplies the assets of a catalogue in SQLite, rows and files, for tests and measurements of large libraries."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

Row = dict[str, Any]

BATCH = 5000
FIRST_DAY = datetime(2010, 1, 1, tzinfo=UTC)


def multiply_assets(
    database: Path, owner_id: UUID, count: int, seed: int, *, days: int = 5000, kinds: frozenset[str] | None = None
) -> None:
    """Add `count` copies of the owner's assets that have thumbnails, on random days of the `days` after `FIRST_DAY`.

    Each copy has rows of its own, and files of its own, which are hard links: the original and derivatives of these `kinds` (None: of all).
    The service may run meanwhile.
    """
    dice = random.Random(seed)
    connection = sqlite3.connect(database, timeout=60, isolation_level=None)
    connection.row_factory = sqlite3.Row
    try:
        samples = [
            (asset, [(role, file) for role, file in files if role == "original" or kinds is None or role in kinds])
            for asset, files in _read_samples(connection, owner_id)
        ]
        moments = _choose_moments(dice, count, days)
        for start in range(0, count, BATCH):
            assets: list[Row] = []
            files: list[Row] = []
            derivatives: list[Row] = []
            for moment in moments[start : start + BATCH]:
                sample = dice.choice(samples)
                asset, copies, made = _copy_asset(sample, moment, dice)
                assets.append(asset)
                files += copies
                derivatives += made
            connection.execute("BEGIN IMMEDIATE")
            for table, rows in (("file", files), ("asset", assets), ("derivative", derivatives)):
                _insert(connection, table, rows)
            connection.execute("COMMIT")
    finally:
        connection.close()


def _read_samples(connection: sqlite3.Connection, owner_id: UUID) -> list[tuple[Row, list[tuple[str, Row]]]]:
    """Each asset with its files: the original, named "original", and the derivatives, named by their kind."""
    samples: list[tuple[Row, list[tuple[str, Row]]]] = []
    statement = "SELECT * FROM asset WHERE owner_id = ? AND thumbhash IS NOT NULL AND deleted_at IS NULL"
    for row in connection.execute(statement, (owner_id.hex,)).fetchall():
        files = connection.execute(
            "SELECT 'original' AS role, file.* FROM file WHERE id = :file_id UNION ALL "
            "SELECT derivative.kind, file.* FROM derivative JOIN file ON file.id = file_id WHERE asset_id = :id",
            dict(row),
        ).fetchall()
        samples.append((dict(row), [(file["role"], _without_role(dict(file))) for file in files]))
    if not samples:
        raise ValueError("no asset has a thumbnail")
    return samples


def _without_role(file: Row) -> Row:
    return {name: value for name, value in file.items() if name != "role"}


def _choose_moments(dice: random.Random, count: int, days: int) -> list[datetime]:
    """Some days have many photos, most have none, as in a real library."""
    busy = [dice.randrange(days) for _ in range(max(1, count // 12))]
    return [FIRST_DAY + timedelta(days=dice.choice(busy), seconds=dice.randrange(28_800, 79_200)) for _ in range(count)]


def _copy_asset(
    sample: tuple[Row, list[tuple[str, Row]]], moment: datetime, dice: random.Random
) -> tuple[Row, list[Row], list[Row]]:
    original, sources = sample
    asset_id = UUID(int=dice.getrandbits(128), version=4)
    checksum = dice.randbytes(20)
    written = moment.strftime("%Y-%m-%d %H:%M:%S.000000")
    copies: list[Row] = []
    derivatives: list[Row] = []
    file_id = ""
    for role, source in sources:
        copy = source | {"id": UUID(int=dice.getrandbits(128), version=4).hex, "path": _link(source["path"], asset_id)}
        copies.append(copy)
        if role == "original":
            file_id = copy["id"]
        else:
            derivatives.append({"asset_id": asset_id.hex, "kind": role, "file_id": copy["id"]})
    dates = dict.fromkeys(("file_created_at", "file_modified_at", "local_date_time"), written)
    asset = (
        original | {"id": asset_id.hex, "file_id": file_id, "checksum": checksum, "live_photo_video_id": None} | dates
    )
    return asset, copies, derivatives


def _link(path: str, asset_id: UUID) -> str:
    """A hard link to the file, beside it."""
    source = Path(path)
    target = source.with_name(f"{asset_id}{source.name[-20:]}")
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno != errno.EMLINK:  # ext4 allows 65,000 links to a file
            raise
        shutil.copyfile(source, target)
        Path(target).replace(source)
        os.link(source, target)
    return str(target)


def _insert(connection: sqlite3.Connection, table: str, rows: list[Row]) -> None:
    if rows:
        names = list(rows[0])
        marks = ", ".join(f":{name}" for name in names)
        connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", rows)
