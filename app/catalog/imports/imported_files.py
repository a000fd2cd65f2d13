"""Rows of files that are taken over where they lie. Statements in the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota
from app.catalog.assets.asset_removal import REPLACED_FILE_GRACE, mark_live_for_deletion
from app.catalog.database.bulk_statements import insert_rows
from app.catalog.database.engine import now
from app.catalog.foreign_files import insert_foreign_files
from app.catalog.moves.kept_copies import detach_changed_copies
from app.catalog.schema import tables
from app.catalog.schema.import_records import ImportedFile
from app.catalog.schema.records import QUOTA_KINDS, FileKind, FileState, ForeignFile

_OF_FOUND_TYPE = frozenset({FileKind.ORIGINAL, FileKind.EXTERNAL})
_asset = tables.asset
_file = tables.file
_library_file = tables.library_file
_user = tables.user


async def insert_files(connection: AsyncConnection, files: Sequence[tuple[UUID, ImportedFile]]) -> None:
    """Each file with its owner. Those of libraries are external, all others foreign. Raises as `insert_foreign_files`."""
    foreign = [
        ForeignFile(file.id, owner_id, file.kind, file.path, file.size, file.mime_type, file.sha1)
        for owner_id, file in files
        if file.kind is not FileKind.EXTERNAL
    ]
    if foreign:
        await insert_foreign_files(connection, foreign)
    moment = now()
    external = [_external_row(owner_id, file, moment) for owner_id, file in files if file.kind is FileKind.EXTERNAL]
    await insert_rows(connection, _file, external)


def _external_row(owner_id: UUID, file: ImportedFile, moment: Any) -> dict[str, Any]:
    return {
        "id": file.id, "owner_id": owner_id, "kind": file.kind, "path": file.path, "state": FileState.LIVE, "size": file.size,
        "sha1": file.sha1, "crc32": None, "mime_type": file.mime_type, "created_at": moment, "not_before": moment,
    }  # fmt: skip


async def release_paths(connection: AsyncConnection, file_ids: Iterable[UUID]) -> None:
    """Give each file a path that no file can have, below its own: files may have exchanged their names. A library lists it so."""
    for file_id in file_ids:
        path = _file.c.path + _suffix_of_released(file_id)
        await connection.execute(update(_file).where(_file.c.id == file_id).values(path=path))
        listed = _library_file.c.asset_id.in_(select(_asset.c.id).where(_asset.c.file_id == file_id))
        await connection.execute(
            update(_library_file).where(listed).values(name=_library_file.c.name + _suffix_of_released(file_id))
        )


def _suffix_of_released(file_id: UUID) -> str:
    return f"/{file_id}"


_UPDATE_FILE = (
    update(_file)
    .where(_file.c.id == bindparam("of_file"))
    .values(
        path=bindparam("new_path"),
        size=bindparam("new_size"),
        sha1=bindparam("new_sha1"),
        crc32=bindparam("new_crc32"),
        mime_type=bindparam("new_mime_type"),
    )
)


async def update_files(
    connection: AsyncConnection,
    owners: Mapping[UUID, UUID],
    files: Sequence[ImportedFile],
    known: Mapping[UUID, Any],
    rewritten: Collection[UUID] | None = None,
) -> None:
    """Store path, size and SHA-1 of files that have rows already (`known`, by id). `owners`: by the id of the file. `rewritten`: files with
    another content, whose checksums are forgotten, and copies detached (`detach_changed_copies`); None: those whose size or SHA-1
    differs. Files beside originals have the type of their names; that of an original stays, as it was found in the content."""
    if not files:
        return
    if rewritten is None:
        rewritten = [file.id for file in files if not is_same_content(file, known[file.id])]
    rows: list[dict[str, Any]] = []
    for file in files:
        former = known[file.id]
        is_same = file.id not in rewritten
        rows.append({
            "of_file": file.id, "new_path": file.path, "new_size": file.size,
            "new_sha1": file.sha1 or (former.sha1 if is_same else None), "new_crc32": former.crc32 if is_same else None,
            "new_mime_type": former.mime_type if file.kind in _OF_FOUND_TYPE else file.mime_type,
        })  # fmt: skip
        if file.kind in QUOTA_KINDS and former.size != file.size:
            await quota.refund_quota(connection, owners[file.id], former.size or 0)
            charge = update(_user).where(_user.c.id == owners[file.id]).values(used=_user.c.used + file.size)
            await connection.execute(charge)
    if rewritten:
        await detach_changed_copies(connection, rewritten)
    await connection.execute(_UPDATE_FILE, rows)


def is_same_content(file: ImportedFile, known: Any) -> bool:
    """Whether the row `known` of the file describes the same bytes, as far as is known."""
    return known.size == file.size and (file.sha1 is None or known.sha1 in (None, file.sha1))


async def replace_file(
    connection: AsyncConnection, owner_id: UUID, former_id: UUID | None, file: ImportedFile | None
) -> tuple[UUID | None, bool]:
    """Insert or update the row of an image of a user or a person. Returns the id to refer to, and whether anything changed; afterwards the
    caller removes the row of the former one (`remove_replaced_file`)."""
    if file is None:
        return former_id, False
    known = (await connection.execute(select(_file).where(_file.c.id == file.id))).one_or_none()
    if known is not None and not known.is_foreign:  # it was adopted
        return former_id, False
    taken = select(_file.c.id).where(_file.c.path == file.path, _file.c.id != file.id)
    if (await connection.execute(taken)).first() is not None:
        return former_id, False
    if known is None:
        await insert_files(connection, [(owner_id, file)])
    elif (known.path, known.size) != (file.path, file.size):
        await update_files(connection, {file.id: owner_id}, [file], {file.id: known})
    else:
        return file.id, former_id != file.id
    return file.id, True


async def remove_replaced_file(
    connection: AsyncConnection, owner_id: UUID, former_id: UUID | None, file_id: UUID | None
) -> None:
    """Call it when nothing refers to `former_id` any more."""
    if former_id is not None and former_id != file_id:
        await mark_live_for_deletion(connection, owner_id, [former_id], REPLACED_FILE_GRACE)
