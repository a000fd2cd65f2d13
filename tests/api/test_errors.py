"""The table from exceptions to error responses: every exception of the packages below `api` has a status that is fixed here."""

from __future__ import annotations

from uuid import UUID

import pytest

from app.api.errors import to_api_error
from app.archives import errors as archives
from app.catalog import errors as catalog
from app.catalog.schema.upload_records import UploadState
from app.delivery.errors import PreconditionFailed, UnsatisfiableRange
from app.media import errors as media
from app.media import portraits
from app.storage import errors as storage
from app.storage.s3.protocol.errors import MultipartUploadMissing, S3RequestRefused
from app.storage.s3.protocol.transport import RangeOutside
from app.uploads import errors as uploads
from app.uploads.protocols import errors as protocols
from app.uploads.sessions import errors as sessions

ID = UUID("0d4c1d0e-0000-4000-8000-000000000000")
PLACE = ("key", "local")
BASES = (storage.StorageError, catalog.CatalogError, uploads.UploadError, media.MediaError)

CASES: list[tuple[Exception, int]] = [
    (storage.StorageError(*PLACE), 500),
    (storage.InvalidKey(*PLACE), 500),
    (storage.ObjectNotFound(*PLACE), 404),
    (storage.ObjectExists(*PLACE), 500),
    (storage.ObjectChanged(*PLACE), 500),
    (storage.ObjectTooLarge(*PLACE), 413),
    (storage.ObjectIncomplete(*PLACE), 500),
    (storage.RangeNotSatisfiable(*PLACE, 5), 500),
    (storage.StorageFull(*PLACE), 507),
    (storage.StagingFull(*PLACE), 507),
    (storage.StoragePermission(*PLACE), 503),
    (storage.ListingIncomplete(["folder"], "local"), 503),
    (storage.StorageUnavailable(*PLACE), 503),
    (storage.CopyLookupFailed(*PLACE), 503),
    (storage.StorageReadOnly(*PLACE), 503),
    (storage.StorageRefused("key", "s3"), 503),
    (S3RequestRefused("key", "s3"), 503),
    (MultipartUploadMissing("key", "s3"), 503),
    (RangeOutside("key", "s3"), 500),
    (catalog.CatalogError("x"), 500),
    (catalog.CatalogUnavailable("x"), 503),
    (catalog.CatalogUnreachable("x"), 503),
    (catalog.CatalogBusy("x"), 503),
    (catalog.CatalogLocked("x"), 503),
    (catalog.CatalogFull("x"), 503),
    (catalog.CatalogReadOnly("x"), 503),
    (catalog.CatalogFileMoved("x"), 503),
    (catalog.CatalogDamaged("x"), 503),
    (catalog.InvalidDatabaseUrl("x"), 500),
    (catalog.SchemaMismatch("x"), 500),
    (catalog.ConstraintViolation("x"), 500),
    (catalog.CatalogNotEmpty("x"), 500),
    (catalog.MigrationBusy(), 500),
    (catalog.OutsideForeignRoots("/elsewhere/key"), 500),
    (catalog.EmailTaken("anna@example.org"), 409),
    (catalog.InvalidEmail("anna"), 400),
    (catalog.InvalidCursor("x"), 400),
    (catalog.QuotaExceeded(1, 1, 1), 400),
    (catalog.DuplicateAsset(ID, is_trashed=False), 500),
    (catalog.WriteLeaseLost(ID), 503),
    (catalog.UploadSuperseded(ID), 500),
    (catalog.LibraryChanged(ID), 500),
    (catalog.NotAPhoto(ID), 400),
    (catalog.DateOutOfRange(), 400),
    (catalog.MigrationBusy(), 500),
    (catalog.OutsideForeignRoots("/elsewhere/key"), 500),
    (catalog.NotFound("asset", [ID]), 404),
    (uploads.UploadError("x"), 400),
    (uploads.MalformedBody("x"), 400),
    (uploads.IncompleteBody(), 400),
    (uploads.ClientDisconnected(), 400),
    (uploads.UploadTooSlow("x"), 408),
    (uploads.UploadTooLarge(5), 413),
    (uploads.InvalidField("x", "y"), 400),
    (uploads.UnsupportedType(".x"), 400),
    (uploads.InvalidChecksum(), 400),
    (uploads.ChecksumMismatch(), 400),
    (uploads.EmptyFile(), 400),
    (uploads.LeaseLost(), 503),
    (protocols.ProtocolViolation("x"), 400),
    (protocols.UnsupportedVersion("x"), 400),
    (protocols.UnsupportedContentType("x"), 400),
    (protocols.FieldTooLarge("x"), 400),
    (protocols.InvalidDigest("x"), 400),
    (sessions.UploadNotFound(ID), 404),
    (sessions.UploadGone(UploadState.EXPIRED), 410),
    (sessions.OffsetMismatch(1, 2), 409),
    (sessions.InconsistentLength(1, 2), 400),
    (sessions.ChunkDigestMismatch(), 400),
    (sessions.UploadTakenOver(), 409),
    (sessions.TooManyUploads(1, 60), 429),
    (sessions.UploadForbidden("x"), 403),
    (archives.ManifestUnreadable("x"), 410),
    (archives.NotArchivable(ID, "x", "y"), 409),
    (archives.MemberLost(ID, "x", "y"), 410),
    (media.MediaError("x"), 400),
    (media.DecodeFailed("x"), 400),
    (media.LimitExceeded("x"), 400),
    (media.ProcessingTimedOut("x"), 503),
    (media.WorkerCrashed("x"), 503),
    (media.SourceUnreadable("x"), 503),
    (media.MissingTool("x"), 501),
    (media.MediaDiskFull("x"), 507),
    (portraits.PortraitSourceMissing("x"), 409),
    (portraits.PortraitConflict(), 409),
    (PreconditionFailed(()), 412),
    (UnsatisfiableRange(5, ()), 416),
    (RuntimeError("secret"), 500),
]


@pytest.mark.parametrize(("error", "status"), CASES, ids=lambda value: type(value).__name__)
def test_the_status(error: Exception, status: int) -> None:
    assert to_api_error(error).status == status


def test_no_error_is_forgotten() -> None:
    """A new exception class needs a case above, which fixes its status."""
    assert _family(BASES) == {type(error) for error, _ in CASES if isinstance(error, BASES)}


@pytest.mark.parametrize(
    ("error", "status"), [case for case in CASES if case[1] == 500], ids=lambda v: type(v).__name__
)
def test_a_fault_of_the_service_tells_nothing_of_its_inside(error: Exception, status: int) -> None:
    refusal = to_api_error(error)
    assert refusal.status == status
    assert str(error) not in refusal.message
    assert "key" not in refusal.message


def test_what_failed_in_the_storage_is_told_apart() -> None:
    kinds = (storage.InvalidKey, storage.ObjectIncomplete, storage.StorageError)
    assert len({to_api_error(kind(*PLACE)).message for kind in kinds}) == len(kinds)


def _family(bases: tuple[type[Exception], ...]) -> set[type[Exception]]:
    """All classes in `app` that are or derive from `bases`, except private ones, which do not leave their module."""
    found: set[type[Exception]] = set()
    waiting = list(bases)
    while waiting:
        kind = waiting.pop()
        if kind not in found:
            found.add(kind)
            waiting += kind.__subclasses__()
    return {kind for kind in found if kind.__module__.startswith("app.") and kind.__name__[0] != "_"}
