"""The definitions of all tables.

Migrations create the tables, not these definitions; a test compares the two. Column names equal the field names of the
records.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    false,
)
from sqlalchemy.engine.interfaces import ExecutionContext

from app.catalog.schema.column_types import StrEnumType, Text, UtcDateTime
from app.catalog.schema.import_records import ImportPhase
from app.catalog.schema.library_records import LibraryState
from app.catalog.schema.move_records import MoveState
from app.catalog.schema.records import AssetType, FileKind, FileState, TaskKind, TaskState, Visibility
from app.catalog.schema.upload_records import UploadState
from app.config import StorageEngine
from app.unicode_folding import fold_case

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


_COUNTER = BigInteger().with_variant(Integer(), "sqlite")
"""Of a primary key that the database counts up."""


def _id() -> Column[UUID]:
    return Column("id", Uuid, primary_key=True)


def _reference(name: str, target: str, *, nullable: bool = False, unique: bool = False, on_delete: str | None = None):
    return Column(name, Uuid, ForeignKey(target, ondelete=on_delete), nullable=nullable, unique=unique)


def _required(name: str, kind: Any, **options: Any) -> Column[Any]:
    return Column(name, kind, nullable=False, **options)


user = Table(
    "user",
    metadata,
    _id(),
    _required("email", Text, unique=True),
    _required("name", Text),
    _required("is_admin", Boolean),
    Column("quota", BigInteger),
    _required("used", BigInteger),
    Column("password_hash", Text),
    _required("created_at", UtcDateTime),
    _required("updated_at", UtcDateTime),
    Column("profile_file_id", Uuid, ForeignKey("file.id", name="fk_user_profile_file_id", use_alter=True)),
    Column("profile_changed_at", UtcDateTime),
    # `file` refers to `user`: this column is added last (`use_alter`). It is unique by an index, which SQLite can add.
    Index("uq_user_profile_file_id", "profile_file_id", unique=True),
)

api_key = Table(
    "api_key",
    metadata,
    _id(),
    _reference("user_id", "user.id", on_delete="CASCADE"),
    _required("name", Text),
    _required("permissions", JSON),
    _required("key_hash", LargeBinary, unique=True),
    _required("created_at", UtcDateTime),
    _required("updated_at", UtcDateTime),
    Index("ix_api_key_user_id", "user_id"),
)

session = Table(
    "session",
    metadata,
    _id(),
    _reference("user_id", "user.id", on_delete="CASCADE"),
    _required("token_hash", LargeBinary, unique=True),
    _required("expires_at", UtcDateTime),
    _required("created_at", UtcDateTime),
    _reference("api_key_id", "api_key.id", nullable=True, on_delete="CASCADE"),
    Index("ix_session_user_id", "user_id"),
    Index("ix_session_expires_at", "expires_at"),
    Index("ix_session_api_key_id", "api_key_id"),
)

sign_in_token = Table(
    "sign_in_token",
    metadata,
    Column("user_id", Uuid, ForeignKey("user.id", ondelete="CASCADE"), primary_key=True),
    _required("token_hash", LargeBinary, unique=True),
    _required("expires_at", UtcDateTime),
    _required("created_at", UtcDateTime),
)

file = Table(
    "file",
    metadata,
    _id(),
    _reference("owner_id", "user.id"),
    _required("kind", StrEnumType(FileKind)),
    _required(
        "path", String, unique=True
    ),  # not `Text`: a path that the database cannot hold is refused, never altered
    _required("state", StrEnumType(FileState)),
    Column("size", BigInteger),
    Column("sha1", LargeBinary),
    Column("crc32", BigInteger),
    _required("mime_type", Text),
    _required("created_at", UtcDateTime),
    _required("not_before", UtcDateTime),
    _required("is_foreign", Boolean, server_default=false()),
    # Of the verified copy of a foreign file, which has a row of its own: see `app.catalog.moves.kept_copies`.
    Column("copy_path", String),
    # Of the row of such a copy: the foreign file's id. No foreign key: it outlives that file's row.
    Column("copy_of", Uuid),
    # No program, of whatever version, may mark a foreign file for deletion.
    CheckConstraint("NOT is_foreign OR state = 'live'", name="ck_file_foreign_is_live"),
    Index("ix_file_state_not_before", "state", "not_before"),
)

Index(
    "uq_file_copy_path",
    file.c.copy_path,
    unique=True,
    sqlite_where=file.c.copy_path.is_not(None),
    postgresql_where=file.c.copy_path.is_not(None),
)

foreign_root = Table(
    "foreign_root",
    metadata,
    Column("path", String, primary_key=True),
    _required("created_at", UtcDateTime),
)


def _folded_name(context: ExecutionContext) -> str:
    values: dict[str, Any] = context.get_current_parameters()  # type: ignore[attr-defined]
    return fold_case(values["original_file_name"])


asset = Table(
    "asset",
    metadata,
    _id(),
    _reference("owner_id", "user.id"),
    _required("type", StrEnumType(AssetType)),
    _reference("file_id", "file.id", unique=True),
    _reference("sidecar_id", "file.id", nullable=True, unique=True),
    Column("checksum", LargeBinary),
    _required("original_file_name", Text),
    _required("file_created_at", UtcDateTime),
    _required("file_modified_at", UtcDateTime),
    _required("local_date_time", UtcDateTime),
    _required("created_at", UtcDateTime),
    _required("updated_at", UtcDateTime),
    _required("is_favorite", Boolean),
    _required("visibility", StrEnumType(Visibility)),
    Column("duration", BigInteger),
    Column("width", Integer),
    Column("height", Integer),
    Column("thumbhash", LargeBinary),
    Column("exif", JSON(none_as_null=True)),
    _reference("live_photo_video_id", "asset.id", nullable=True, on_delete="SET NULL"),
    Column("library_id", Uuid),
    _required("is_offline", Boolean),
    Column("deleted_at", UtcDateTime),
    Column("device_asset_id", Text),
    Column("device_id", Text),
    Column("metadata", JSON(none_as_null=True)),
    Column("folded_name", Text, default=_folded_name),
    # The part of `exif` that a user has edited. NULL: nobody has, or an older version, which did not record edits.
    Column("exif_edits", JSON(none_as_null=True)),
    # `exif.livePhotoCID`, for the index.
    Column("live_photo_cid", Text),
    # Why the sidecar was ignored when the metadata was read.
    Column("sidecar_error", Text),
    # With what lists and searches are filtered by, so that rows that do not match are not read.
    Index(
        "ix_asset_owner_id_file_created_at_id",
        *("owner_id", "file_created_at", "id", "visibility", "deleted_at", "is_favorite", "type"),
    ),
    Index("ix_asset_owner_id_id", "owner_id", "id"),
    Index(
        "ix_asset_owner_id_local_date_time_id",
        *("owner_id", "local_date_time", "id", "visibility", "deleted_at", "is_favorite"),
    ),
    Index("ix_asset_deleted_at", "deleted_at"),
    Index("ix_asset_live_photo_video_id", "live_photo_video_id"),
    Index("ix_asset_library_id", "library_id"),
)

Index(
    "uq_asset_owner_id_checksum",
    asset.c.owner_id,
    asset.c.checksum,
    unique=True,
    sqlite_where=asset.c.library_id.is_(None),
    postgresql_where=asset.c.library_id.is_(None),
)

Index(
    "ix_asset_owner_id_checksum_external",
    asset.c.owner_id,
    asset.c.checksum,
    sqlite_where=asset.c.library_id.is_not(None),
    postgresql_where=asset.c.library_id.is_not(None),
)

Index(
    "ix_asset_unfolded",
    asset.c.id,
    sqlite_where=asset.c.folded_name.is_(None),
    postgresql_where=asset.c.folded_name.is_(None),
)

Index(
    "ix_asset_owner_id_live_photo_cid",
    asset.c.owner_id,
    asset.c.live_photo_cid,
    sqlite_where=asset.c.live_photo_cid.is_not(None),
    postgresql_where=asset.c.live_photo_cid.is_not(None),
)

derivative = Table(
    "derivative",
    metadata,
    # No cascade: the code that deletes an asset must mark the files of its derivatives for deletion.
    Column("asset_id", Uuid, ForeignKey("asset.id"), primary_key=True),
    Column("kind", StrEnumType(FileKind), primary_key=True),
    _reference("file_id", "file.id", unique=True),
)

task = Table(
    "task",
    metadata,
    _id(),
    _reference("asset_id", "asset.id", on_delete="CASCADE"),
    _required("kind", StrEnumType(TaskKind)),
    _required("state", StrEnumType(TaskState)),
    _required("priority", Integer),
    _required("attempts", Integer),
    _required("deaths", Integer),
    Column("error", Text),
    Column("run_id", Uuid),
    _required("not_before", UtcDateTime),
    _required("requested_at", UtcDateTime),
    _required("created_at", UtcDateTime),
    _required("updated_at", UtcDateTime),
    UniqueConstraint("asset_id", "kind", name="uq_task_asset_id_kind"),
    Index("ix_task_kind_state_priority_not_before", "kind", "state", "priority", "not_before"),
)

person = Table(
    "person",
    metadata,
    _id(),
    _reference("owner_id", "user.id"),
    Column("name", Text),
    _reference("thumbnail_file_id", "file.id", nullable=True, unique=True),
    _reference("thumbnail_asset_id", "asset.id", nullable=True, on_delete="SET NULL"),
    _required("created_at", UtcDateTime),
    _required("updated_at", UtcDateTime),
    Index("ix_person_owner_id", "owner_id"),
    Index("ix_person_thumbnail_asset_id", "thumbnail_asset_id"),
)

archive = Table(
    "archive",
    metadata,
    _id(),
    _reference("owner_id", "user.id", on_delete="CASCADE"),
    _required("name", Text),
    _required("token_hash", LargeBinary, unique=True),
    _required("manifest", LargeBinary),
    _required("created_at", UtcDateTime),
    _required("expires_at", UtcDateTime),
    # The id of a key or a session: no foreign key, as it is one of two tables. A link whose credential is gone is swept
    # as expired.
    Column("credential_id", Uuid),
    Index("ix_archive_owner_id", "owner_id"),
    Index("ix_archive_expires_at", "expires_at"),
)

# Names of the members of one part of a split download, so that no two parts have a member of the same name.
download_part = Table(
    "download_part",
    metadata,
    Column("owner_id", Uuid, ForeignKey("user.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    _required("names", JSON),
    _required("name_count", Integer),
    _required("expires_at", UtcDateTime),
    Index("ix_download_part_expires_at", "expires_at"),
)

migration = Table(
    "migration",
    metadata,
    _id(),
    _required("target", StrEnumType(StorageEngine)),
    _required("created_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
)

# No foreign keys to `file`: the ledger outlives the rows of its files.
migration_item = Table(
    "migration_item",
    metadata,
    Column("migration_id", Uuid, ForeignKey("migration.id", ondelete="CASCADE"), primary_key=True),
    Column("file_id", Uuid, primary_key=True),
    _required("twin_id", Uuid, unique=True),
    _required("owner_id", Uuid),
    _required("kind", StrEnumType(FileKind)),
    _required("source_path", String),
    _required("target_path", String),
    _required("size", BigInteger),
    _required("state", StrEnumType(MoveState)),
    Column("problem", Text),
    Column("switched_at", UtcDateTime),
    Index("ix_migration_item_migration_id_state_file_id", "migration_id", "state", "file_id"),
)

_BYTEWISE = String().with_variant(String(collation="C"), "postgresql")
"""Text sorted by its bytes, so that the paths below a folder are one range of an index."""

library = Table(
    "library",
    metadata,
    _id(),
    _reference("owner_id", "user.id"),
    _required("name", Text),
    _required("import_paths", JSON),
    _required("exclusion_patterns", JSON),
    _required("created_at", UtcDateTime),
    _required("updated_at", UtcDateTime),
    Column("deleted_at", UtcDateTime),
    _required("state", StrEnumType(LibraryState)),
    _required("state_since", UtcDateTime),
    Column("state_error", Text),
    Column("scanned_at", UtcDateTime),
    _required("files", BigInteger),
    _required("mounts", JSON),
    Column("watch", Text),
    Column("last_scan", JSON(none_as_null=True)),
    # Immich scans it: this service follows Immich's rows.
    _required("is_foreign", Boolean, server_default=false()),
    Index("ix_library_owner_id", "owner_id"),
)

library_folder = Table(
    "library_folder",
    metadata,
    _id(),
    _reference("library_id", "library.id", on_delete="CASCADE"),
    _required("path", _BYTEWISE),
    Column("digest", LargeBinary),
    UniqueConstraint("library_id", "path"),
)

library_file = Table(
    "library_file",
    metadata,
    Column("asset_id", Uuid, ForeignKey("asset.id", ondelete="CASCADE"), primary_key=True),
    _reference("folder_id", "library_folder.id", on_delete="CASCADE"),
    _required("name", _BYTEWISE),
    _required("device", BigInteger),
    _required("inode", BigInteger),
    _required("size", BigInteger),
    _required("mtime_ns", BigInteger),
    Column("missing_since", UtcDateTime),
    _required("trashed", Boolean),
    # The sidecar at the last scan, in the same folder.
    Column("sidecar_name", String),
    Column("sidecar_size", BigInteger),
    Column("sidecar_mtime_ns", BigInteger),
    UniqueConstraint("folder_id", "name"),
    Index("ix_library_file_inode", "inode"),
    Index("ix_library_file_missing_since", "missing_since"),
)

# No foreign keys to `file` and `asset`: a session outlives its file's row, and its answer the asset.
upload = Table(
    "upload",
    metadata,
    _id(),
    _reference("owner_id", "user.id", on_delete="CASCADE"),
    Column("credential_id", Uuid),
    _required("permission", Text),
    _required("protocol", Text),
    _required("state", StrEnumType(UploadState)),
    Column("length", BigInteger),
    _required("offset", BigInteger),
    _required("all_received", Boolean),
    _required("raw_metadata", Text),
    _required("fields", JSON),
    _required("filename", Text),
    Column("declared_sha1", LargeBinary),
    # The first bytes, as long as they are not in the storage: the stored file's extension depends on them.
    Column("head", LargeBinary),
    Column("file_id", Uuid),
    Column("path", String),
    Column("storage_state", String),
    Column("sha1_state", LargeBinary),
    _required("crc32", BigInteger),
    _required("generation", BigInteger),
    Column("writer", Uuid),
    _required("is_contested", Boolean),
    _required("received_bytes", BigInteger),
    _required("resumptions", Integer),
    Column("result_asset_id", Uuid),
    Column("result_created", Boolean),
    Column("result_added", JSON(none_as_null=True)),
    Column("failure", Text),
    _required("created_at", UtcDateTime),
    _required("updated_at", UtcDateTime),
    _required("expires_at", UtcDateTime),
    Column("cleanup_at", UtcDateTime),
    Index("ix_upload_owner_id_state", "owner_id", "state"),
    Index("ix_upload_expires_at", "expires_at"),
    Index("ix_upload_cleanup_at", "cleanup_at"),
    Index("ix_upload_path", "path"),
)

# Kept counts. Triggers of `asset` and `file`, made by revision 0017, change them in each transaction. A count is the sum of
# the matching rows. On PostgreSQL a trigger only inserts rows, with `is_delta`, so that no writer waits for another one;
# `KeptCountRepository.fold` adds them up. No foreign keys: checking one would lock the user's row.
IS_DERIVED = "is_derived"
"""In `Table.info`: the rows follow from those of other tables, so backups leave them out."""

asset_count = Table(
    "asset_count",
    metadata,
    Column("id", _COUNTER, primary_key=True, autoincrement=True),
    _required("owner_id", Uuid),
    Column("library_id", Uuid),
    _required("month", String),
    _required("type", StrEnumType(AssetType)),
    _required("visibility", StrEnumType(Visibility)),
    _required("is_favorite", Boolean),
    _required("is_trashed", Boolean),
    _required("assets", BigInteger),
    _required("is_delta", Boolean),
    Index("ix_asset_count_owner_id_month", "owner_id", "month"),
    info={IS_DERIVED: True},
)

# Live files. `is_image` by their MIME type; `is_remote`: in S3.
file_count = Table(
    "file_count",
    metadata,
    Column("id", _COUNTER, primary_key=True, autoincrement=True),
    _required("owner_id", Uuid),
    _required("kind", StrEnumType(FileKind)),
    _required("is_image", Boolean),
    _required("is_remote", Boolean),
    _required("files", BigInteger),
    _required("bytes", BigInteger),
    _required("is_delta", Boolean),
    Index("ix_file_count_owner_id", "owner_id"),
    info={IS_DERIVED: True},
)

for _counts in (asset_count, file_count):
    Index(
        f"ix_{_counts.name}_delta",
        _counts.c.id,
        sqlite_where=_counts.c.is_delta,
        postgresql_where=_counts.c.is_delta,
    )

# An installation of Immich that is taken over, and how far. `users`: the email addresses that were chosen; NULL: all.
immich_source = Table(
    "immich_source",
    metadata,
    Column("name", Text, primary_key=True),
    _required("media_roots", JSON),
    Column("users", JSON(none_as_null=True)),
    _required("phase", StrEnumType(ImportPhase)),
    Column("after_id", Uuid),
    _required("begun_at", UtcDateTime),
    Column("followed_to", UtcDateTime),
    Column("compared_at", UtcDateTime),
)

# Users who came from Immich. `password_hash`: the one that Immich had when it was last read.
immich_user = Table(
    "immich_user",
    metadata,
    Column("user_id", Uuid, ForeignKey("user.id", ondelete="CASCADE"), primary_key=True),
    Column("password_hash", Text),
)

immich_key = Table(
    "immich_key",
    metadata,
    Column("key_id", Uuid, ForeignKey("api_key.id", ondelete="CASCADE"), primary_key=True),
)

# Not in `session`: a program from before revision 0023 would give them all permissions.
immich_session = Table(
    "immich_session",
    metadata,
    _id(),
    _reference("user_id", "user.id", on_delete="CASCADE"),
    _required("token_hash", LargeBinary, unique=True),
    _required("expires_at", UtcDateTime),
    _required("created_at", UtcDateTime),
    _required("device_type", String),
    Index("ix_immich_session_user_id", "user_id"),
    Index("ix_immich_session_expires_at", "expires_at"),
)

installation = Table(
    "installation",
    metadata,
    Column("name", Text, primary_key=True),
    _required("value", Text),
)
