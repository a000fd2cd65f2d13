"""Compares catalogue and storage of a service with plain SQL and a plain listing; uses none of the code under test."""

from __future__ import annotations

import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa

from tests.real.kept_counts import find_wrong_counts
from tests.real.stacks import Stack

SETTLE_SECONDS = 5.0


CHARGED = ("original", "sidecar")
"""The kinds of files that count against a quota."""
REFERENCES = """
    SELECT 'an asset', owner_id, file_id FROM asset
    UNION ALL SELECT 'an asset''s sidecar', owner_id, sidecar_id FROM asset WHERE sidecar_id IS NOT NULL
    UNION ALL SELECT 'a derivative', asset.owner_id, derivative.file_id FROM derivative JOIN asset ON asset.id = asset_id
    UNION ALL SELECT 'a person', owner_id, thumbnail_file_id FROM person WHERE thumbnail_file_id IS NOT NULL
    UNION ALL SELECT 'a user', id, profile_file_id FROM "user" WHERE profile_file_id IS NOT NULL"""
"""All references to files, with the owner of each reference."""
EXTERNAL = """
    SELECT file.path, asset.library_id, library_file.size, library_folder.path, library_file.name
    FROM asset JOIN file ON file.id = asset.file_id
    LEFT JOIN library_file ON library_file.asset_id = asset.id
    LEFT JOIN library_folder ON library_folder.id = library_file.folder_id
    WHERE asset.library_id IS NOT NULL"""


@dataclass(frozen=True, slots=True)
class FileRow:
    id: str
    owner_id: str
    path: str
    state: str
    size: int | None
    kind: str = "original"
    is_foreign: bool = False
    copy_path: str | None = None


@dataclass(frozen=True, slots=True)
class CatalogueAndStorage:
    """The stored objects and the catalogue's rows, read at about the same time."""

    objects: dict[str, int]
    files: list[FileRow]
    references: dict[str, list[tuple[str, str]]]
    """By file id: what refers to the file, and the owner of the reference."""
    used: dict[str, int]
    external: dict[str, tuple[str | None, int, str]] = field(default_factory=dict)
    """By path: the library of the asset, and the size and path in the library's own rows."""
    wrong_counts: list[str] = field(default_factory=list)


def assert_consistent(stack: Stack, *, exact: bool = False, engine: sa.Engine | None = None) -> None:
    """Fail with a list of all differences. Waits a moment for work of clients that disconnected. `exact`: both sides may have live files
    only, as after a sweep. `engine` is that of `read_state`."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        found = differences(read_state(stack, engine), exact=exact)
        found += [f"still staged: {path}" for path in stack.staged()]
        if not found or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert not found, "catalogue and storage differ:\n" + "\n".join(found)


def read_state(stack: Stack, engine: sa.Engine | None = None) -> CatalogueAndStorage:
    """Reads the objects first, then the rows: a row is inserted before its object, so every listed object must have one. `engine` replaces a
    new connection to the catalogue."""
    objects = stack.objects()
    with (engine or _engine(stack.db_url)).connect() as connection:
        files = [
            FileRow(str(file_id), str(owner_id), *row)
            for file_id, owner_id, *row in connection.execute(
                sa.text("SELECT id, owner_id, path, state, size, kind, is_foreign, copy_path FROM file")
            )
        ]
        referring = connection.execute(sa.text(REFERENCES)).all()
        used = connection.execute(sa.text('SELECT id, used FROM "user"')).all()
        external = connection.execute(sa.text(EXTERNAL)).all()
        wrong_counts = find_wrong_counts(connection)
    references: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, owner, file_id in referring:
        references[str(file_id)].append((name, str(owner)))
    return CatalogueAndStorage(
        objects,
        files,
        references,
        {str(user): amount for user, amount in used},
        {path: (library, size, f"{folder}/{name}") for path, library, size, folder, name in external},
        wrong_counts,
    )


def differences(snapshot: CatalogueAndStorage, *, exact: bool) -> list[str]:
    """One line for each difference."""
    return [
        *_unaccounted(snapshot),
        *_wrong_files(snapshot),
        *_wrong_references(snapshot),
        *_wrong_sums(snapshot),
        *_wrong_externals(snapshot),
        *_wrong_copies(snapshot),
        *snapshot.wrong_counts,
        *(_not_exact(snapshot) if exact else ()),
    ]


def _unaccounted(snapshot: CatalogueAndStorage) -> list[str]:
    known = {file.path for file in snapshot.files}
    return [
        f"stored without a row: {path}" for path in snapshot.objects if path not in known and not needs_no_row(path)
    ]


def _wrong_files(snapshot: CatalogueAndStorage) -> list[str]:
    found = []
    for file in snapshot.files:
        if file.is_foreign and (file.state != "live" or file.path in snapshot.objects):
            found.append(f"foreign, but {file.state} or among the managed files: {file.path}")
        if file.state != "live" or file.kind == "external":
            continue
        stored = _find_foreign_size(file) if file.is_foreign else snapshot.objects.get(file.path)
        if stored is None:
            found.append(f"live, but not stored: {file.path}")
        elif stored != file.size:
            found.append(f"{stored} bytes stored, {file.size} in the row: {file.path}")
        if len(snapshot.references.get(file.id, ())) != 1:
            found.append(f"live, but {len(snapshot.references.get(file.id, ()))} rows refer to it: {file.path}")
    return found


def _find_foreign_size(file: FileRow) -> int | None:
    """The size of another program's file; None where it is missing. A test that takes its folder away puts it back."""
    path = Path(file.path)
    return path.lstat().st_size if path.is_file() and not path.is_symlink() else None


def _wrong_copies(snapshot: CatalogueAndStorage) -> list[str]:
    """The copy of a foreign file is stored whole, has a row of its own in state `writing`, and belongs to one file."""
    rows = {file.path: file for file in snapshot.files}
    found = []
    for file in snapshot.files:
        if file.copy_path is None:
            continue
        copy = rows.get(file.copy_path)
        if not file.is_foreign or copy is None or (copy.state, copy.owner_id) != ("writing", file.owner_id):
            found.append(f"copied, but not foreign, or the copy has no row: {file.path}")
        if snapshot.objects.get(file.copy_path) != file.size:
            found.append(f"copied, but the copy has not {file.size} bytes: {file.copy_path}")
    return found


def _wrong_references(snapshot: CatalogueAndStorage) -> list[str]:
    files = {file.id: file for file in snapshot.files}
    found = []
    for file_id, referring in snapshot.references.items():
        file = files.get(file_id)
        if file is None or file.state != "live":
            state = file.state if file else "gone"
            found += [f"{name} refers to a file that is {state}: {file_id}" for name, _ in referring]
        else:
            others = [name for name, owner in referring if owner != file.owner_id]
            found += [f"{name} refers to a file of somebody else: {file.path}" for name in others]
    return found


def _wrong_sums(snapshot: CatalogueAndStorage) -> list[str]:
    sums = Counter[str]()
    for file in snapshot.files:
        if file.state == "live" and file.kind in CHARGED:
            sums[file.owner_id] += file.size or 0
    return [
        f"user {user} has {sums[user]} live bytes of their own and {used} counted"
        for user, used in snapshot.used.items()
        if used != sums[user]
    ]


def _wrong_externals(snapshot: CatalogueAndStorage) -> list[str]:
    """A library's file has the path that its library records, belongs to one asset of the library, and is live while that exists."""
    found = []
    for file in snapshot.files:
        if file.kind != "external":
            continue
        library, size, path = snapshot.external.get(file.path, (None, None, None))
        if library is None or path != file.path or size != file.size:
            found.append(f"{file.path}: its library knows it as {path} with {size} bytes, not {file.size}")
        if file.state != "live" or len(snapshot.references.get(file.id, ())) != 1:
            found.append(
                f"external, {file.state}, with {len(snapshot.references.get(file.id, ()))} assets: {file.path}"
            )
        if file.path in snapshot.objects or file.path.startswith("s3://"):
            found.append(f"external, but among the managed files: {file.path}")
    known = {file.path for file in snapshot.files if file.kind == "external"}
    found += [
        f"an asset of a library has a managed original: {path}" for path in snapshot.external if path not in known
    ]
    return found


def _not_exact(snapshot: CatalogueAndStorage) -> list[str]:
    return [f"{file.state}, not swept: {file.path}" for file in snapshot.files if file.state != "live"]


def needs_no_row(path: str) -> bool:
    """Whether the object has no row by design: markers of the mount check, and backups of the catalogue."""
    return is_marker(path) or re.search(r"/backups/mediavault-[\d.-]+\.jsonl\.gz$", path) is not None


def is_marker(path: str) -> bool:
    """Whether the object is a marker of the mount check: `.immich`, or below a folder that starts with a dot."""
    return any(segment.startswith(".") for segment in path.rsplit("/", 2)[-2:])


def open_engine(db_url: str) -> sa.Engine:
    """A blocking engine that keeps one connection: on PostgreSQL, a new connection for the queries of a comparison takes ten times the CPU of the
    queries."""
    return sa.create_engine(_find_driver(db_url), pool_size=1, max_overflow=0, pool_pre_ping=True)


@lru_cache(maxsize=64)
def _engine(db_url: str) -> sa.Engine:
    """A blocking engine without a pool: no connection stays open between tests."""
    return sa.create_engine(_find_driver(db_url), poolclass=sa.NullPool)


def _find_driver(db_url: str) -> str:
    return db_url.replace("postgresql://", "postgresql+psycopg://", 1)
