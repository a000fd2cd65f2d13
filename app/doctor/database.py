"""The catalogue: does it answer, in what time, is it ours, and may it be written to? Nothing is made or upgraded."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import time
from pathlib import Path

from sqlalchemy import delete, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import tables
from app.catalog.catalog import Catalog, open_catalog
from app.catalog.engine import SqliteFile, parse_url
from app.catalog.errors import CatalogError, SchemaMismatch
from app.config import MEBIBYTE, Settings
from app.doctor.findings import Area, NotAsItShould, size_text

ROUNDS = 7
SLOW_SECONDS = 0.05
OLDEST_POSTGRESQL = 13
FEW_BYTES = 256 * MEBIBYTE
_PROBE = "doctor-probe"
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.rclone", "ceph", "glusterfs"})


async def open_database(area: Area, settings: Settings) -> Catalog | None:
    """The catalogue where there is one; the caller closes it."""
    db_url = settings.db_url.get_secret_value()
    try:
        place = parse_url(db_url)
    except CatalogError as error:
        area.fail("address", str(error))
        return None
    if isinstance(place, SqliteFile) and not await asyncio.to_thread(_sqlite_file, area, place.path):
        return None
    try:
        catalog = await open_catalog(db_url, upgrade=False)
    except SchemaMismatch as error:
        hint = "the next start of the service brings it up to date"
        area.warn("connection", "answers; " + str(error), hint)
        return None
    except CatalogError as error:
        area.fail("connection", str(error), "DB_URL: is the server running, and are user and password right?")
        return None
    area.ok("connection", "SQLite" if isinstance(place, SqliteFile) else "PostgreSQL")
    return catalog


async def check_database(area: Area, catalog: Catalog) -> None:
    sqlite = isinstance(catalog.database.place, SqliteFile)
    await area.attempt("version", _version(catalog, sqlite=sqlite))
    await _latency(area, catalog)
    await area.attempt("writes", _writes(catalog, sqlite=sqlite))


def _sqlite_file(area: Area, path: Path) -> bool:
    folder = path.parent
    if not path.exists():
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            area.fail(
                "file", f"{path} is not there, and can not be made", f"give this user the right to write to {folder}"
            )
        else:
            area.warn("file", f"{path} is not there yet", "the first start of the service makes it")
        return False
    kind = _file_system(path)
    if kind in _NETWORK:
        hint = "SQLite needs a local disk; for a share use PostgreSQL"
        area.fail("file system", f"{path} lies on {kind}", hint)
    room = shutil.disk_usage(folder)
    told = f"{size_text(room.free)} of {size_text(room.total)} free"
    if room.free < FEW_BYTES:
        area.warn("disk", told, f"make room on the disk of {folder}")
    else:
        area.ok("disk", told)
    return True


def _file_system(path: Path) -> str:
    """The type of the mount that the path lies on; "" where that cannot be told."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
        real = path.resolve()
    except OSError:
        return ""
    best, kind = -1, ""
    for _, place, found, *_ in (line.split(" ") for line in lines):
        folder = place.replace("\\040", " ")
        if real.is_relative_to(folder) and len(folder) >= best:
            best, kind = len(folder), found
    return kind


async def _version(catalog: Catalog, *, sqlite: bool) -> str:
    async with catalog.database.read() as connection:
        if sqlite:
            return str((await connection.execute(text("SELECT sqlite_version()"))).scalar_one())
        version = str((await connection.execute(text("SHOW server_version"))).scalar_one())
    major = version.partition(".")[0].split(" ")[0]
    if major.isdigit() and int(major) < OLDEST_POSTGRESQL:
        raise NotAsItShould(version, f"PostgreSQL {OLDEST_POSTGRESQL} or newer is needed")
    return version


async def _latency(area: Area, catalog: Catalog) -> None:
    seconds: list[float] = []
    try:
        for _ in range(ROUNDS):
            start = time.perf_counter()
            await catalog.ping()
            seconds.append(time.perf_counter() - start)
    except CatalogError as error:
        area.fail("latency", str(error))
        return
    median = statistics.median(seconds)
    told = f"{median * 1000:.1f} ms per query"
    if median > SLOW_SECONDS:
        area.warn("latency", told, "every request asks several times: put the database nearer")
    else:
        area.ok("latency", told)


async def _writes(catalog: Catalog, *, sqlite: bool) -> str:
    """In a transaction that is rolled back."""
    try:
        async with catalog.database.write() as connection:
            await connection.execute(insert(tables.installation).values(name=_PROBE, value=""))
            await connection.execute(delete(tables.installation).where(tables.installation.c.name == _PROBE))
            if not sqlite:
                await _require_rights(connection)
            raise _Undone
    except _Undone:
        return "allowed" if sqlite else "allowed, tables may be made"


async def _require_rights(connection: AsyncConnection) -> None:
    may = await connection.execute(text("SELECT has_schema_privilege(current_schema(), 'CREATE')"))
    if not may.scalar_one():
        hint = "GRANT CREATE ON SCHEMA public to the user of DB_URL: upgrades make tables"
        raise NotAsItShould("rows may be written, and no tables made", hint)


class _Undone(Exception):
    pass
