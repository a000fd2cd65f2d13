"""Checks the catalogue's database: connection, version, schema, latency, permission to write, disk space. Creates and upgrades nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert, text
from sqlalchemy.exc import ProgrammingError

from app.catalog.catalog import Catalog
from app.catalog.database.engine import Database
from app.catalog.database.locations import SqliteLocation, parse_url
from app.catalog.database.schema_upgrade import ensure_current
from app.catalog.errors import CatalogError, SchemaMismatch
from app.catalog.schema import tables
from app.config import MEBIBYTE, Settings
from app.doctor.findings import ReportSection, UnexpectedResult, format_size

ROUNDS = 7
SLOW_SECONDS = 0.05
OLDEST_POSTGRESQL = 13
LOW_SPACE_BYTES = 256 * MEBIBYTE
_PROBE = "doctor-probe"
_TABLE = "mediavault_doctor"
_POSTGRESQL_HINT = "DB_URL: is the server running, and are user and password right?"
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.rclone", "ceph", "glusterfs"})


@dataclass(frozen=True, slots=True)
class OpenedDatabase:
    """A database that answers; the caller closes `catalog`. `is_current`: its schema is that of this program version."""

    catalog: Catalog
    is_current: bool


async def open_database(section: ReportSection, settings: Settings) -> OpenedDatabase | None:
    """None, with a finding, if the database does not answer or does not exist yet."""
    try:
        location = parse_url(settings.db_url.get_secret_value())
    except CatalogError as error:
        section.fail("address", str(error))
        return None
    is_sqlite = isinstance(location, SqliteLocation)
    if isinstance(location, SqliteLocation) and not await asyncio.to_thread(_check_sqlite_file, section, location.path):
        return None
    database, is_current = Database(location), True
    try:
        await ensure_current(database, upgrade=False)
    except SchemaMismatch:
        is_current = False
        section.warn("tables", "are not there yet, or older", "the next start of the service brings them up to date")
    except CatalogError as error:
        await database.aclose()
        hint = "is the file whole? `mediavault backup list` tells what there is" if is_sqlite else _POSTGRESQL_HINT
        section.fail("connection", str(error), hint)
        return None
    section.ok("connection", "SQLite" if is_sqlite else "PostgreSQL")
    return OpenedDatabase(Catalog(database), is_current)


async def check_database(section: ReportSection, opened: OpenedDatabase) -> None:
    catalog = opened.catalog
    await section.run_check(
        "version", _check_version(catalog, is_sqlite=isinstance(catalog.database.location, SqliteLocation))
    )
    await _check_latency(section, catalog)
    await section.run_check("writes", _check_writes(opened))


def _check_sqlite_file(section: ReportSection, path: Path) -> bool:
    folder = path.parent
    if not path.exists():
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            section.fail(
                "file", f"{path} is not there, and can not be made", f"give this user the right to write to {folder}"
            )
        else:
            section.warn("file", f"{path} is not there yet", "the first start of the service makes it")
        return False
    fs_type = _find_file_system(path)
    if fs_type in _NETWORK:
        hint = "SQLite needs a local disk; for a share use PostgreSQL"
        section.fail("file system", f"{path} lies on {fs_type}", hint)
    usage = shutil.disk_usage(folder)
    free_space = f"{format_size(usage.free)} of {format_size(usage.total)} free"
    if usage.free < LOW_SPACE_BYTES:
        section.warn("disk", free_space, f"make room on the disk of {folder}")
    else:
        section.ok("disk", free_space)
    return True


def _find_file_system(path: Path) -> str:
    """The file system type of the mount that the path is on; "" if unknown."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
        real = path.resolve()
    except OSError:
        return ""
    best_length, best_type = -1, ""
    for _, mount_point, fs_type, *_ in (line.split(" ") for line in lines):
        folder = mount_point.replace("\\040", " ")
        if real.is_relative_to(folder) and len(folder) >= best_length:
            best_length, best_type = len(folder), fs_type
    return best_type


async def _check_version(catalog: Catalog, *, is_sqlite: bool) -> str:
    async with catalog.database.read() as connection:
        if is_sqlite:
            return str((await connection.execute(text("SELECT sqlite_version()"))).scalar_one())
        version = str((await connection.execute(text("SHOW server_version"))).scalar_one())
    major = version.partition(".")[0].split(" ")[0]
    if major.isdigit() and int(major) < OLDEST_POSTGRESQL:
        raise UnexpectedResult(version, f"PostgreSQL {OLDEST_POSTGRESQL} or newer is needed")
    return version


async def _check_latency(section: ReportSection, catalog: Catalog) -> None:
    seconds: list[float] = []
    try:
        for _ in range(ROUNDS):
            start = time.perf_counter()
            await catalog.ping()
            seconds.append(time.perf_counter() - start)
    except CatalogError as error:
        section.fail("latency", str(error))
        return
    median = statistics.median(seconds)
    latency = f"{median * 1000:.1f} ms per query"
    if median > SLOW_SECONDS:
        section.warn("latency", latency, "every request asks several times: put the database nearer")
    else:
        section.ok("latency", latency)


async def _check_writes(opened: OpenedDatabase) -> str:
    """Inserts a row and creates a table, in a transaction that is rolled back. Raises `UnexpectedResult`, `CatalogError`."""
    try:
        async with opened.catalog.database.write() as connection:
            if opened.is_current:
                await connection.execute(insert(tables.installation).values(name=_PROBE, value=""))
            try:
                await connection.execute(text(f"CREATE TABLE {_TABLE} (id integer)"))
            except ProgrammingError as error:
                hint = "upgrades make tables: GRANT CREATE ON SCHEMA public to the user of DB_URL"
                raise UnexpectedResult("tables may not be made", hint) from error
            raise _Rollback
    except _Rollback:
        return "rows may be written and tables made"


class _Rollback(Exception):
    pass
