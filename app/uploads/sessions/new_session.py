"""Builds the row of a new session from what the client says, and refuses what a plain upload would refuse. No I/O."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from app.catalog.schema.upload_records import Upload, UploadState
from app.formats import FORMATS, MediaFormat
from app.uploads.asset_insertion import EMPTY_SHA1
from app.uploads.errors import EmptyFile, InvalidField, UploadTooLarge
from app.uploads.fields import FIELD_NAMES, parse_fields
from app.uploads.file_names import build_display_name, extract_extension
from app.uploads.sessions.errors import InconsistentLength
from app.uploads.sessions.session_values import NewUpload, UploadCaller
from app.uploads.uploaded_file import find_named_format

MAX_RAW_METADATA_BYTES = 64 * 1024


def build_session(caller: UploadCaller, new: NewUpload, limit: int, lifetime: timedelta) -> Upload:
    """Raises `UploadTooLarge`, `EmptyFile`, `InvalidField`, `UnsupportedType`, `InconsistentLength`."""
    if new.length is not None and new.length < 0:
        raise InconsistentLength(0, new.length)
    if new.length == 0 or new.declared_sha1 == EMPTY_SHA1:
        raise EmptyFile
    if new.length is not None and new.length > limit:
        raise UploadTooLarge(limit, "The file")
    if len(new.raw_metadata.encode("utf-8", "surrogatepass")) > MAX_RAW_METADATA_BYTES:
        raise InvalidField("metadata", f"is longer than {MAX_RAW_METADATA_BYTES} bytes")
    parse_fields(new.fields)
    filename = choose_filename(new)
    find_named_format(filename)
    moment = datetime.now(UTC)
    return Upload(
        id=uuid4(),
        owner_id=caller.user.id,
        credential_id=caller.credential_id,
        permission=caller.permission,
        protocol=new.protocol,
        state=UploadState.CREATED,
        length=new.length,
        offset=0,
        all_received=False,
        raw_metadata=new.raw_metadata,
        fields={name: text for name, text in new.fields.items() if name in FIELD_NAMES},
        filename=filename,
        declared_sha1=new.declared_sha1,
        head=None,
        file_id=None,
        path=None,
        storage_state=None,
        sha1_state=None,
        crc32=0,
        generation=0,
        writer=None,
        is_contested=False,
        received_bytes=0,
        resumptions=0,
        result_asset_id=None,
        result_created=None,
        result_added=None,
        failure=None,
        created_at=moment,
        updated_at=moment,
        expires_at=moment + lifetime,
        cleanup_at=None,
    )


def choose_filename(new: NewUpload) -> str:
    """The first name with an extension; else the first name, with the extension of the content type."""
    names = [build_display_name(name) for name in (new.filename, new.fields.get("filename")) if name]
    named = [name for name in names if extract_extension(name)]
    if named:
        return named[0]
    format_ = _find_by_mime_type(new.content_type or "")
    return f"{names[0] if names else 'upload'}{format_.extension if format_ is not None else ''}"


def _find_by_mime_type(content_type: str) -> MediaFormat | None:
    mime_type = content_type.partition(";")[0].strip().lower()
    usual = f".{mime_type.rpartition('/')[2]}"
    candidates = [each for each in FORMATS if each.mime_type == mime_type]
    return min(candidates, key=lambda each: each.extension != usual, default=None)
