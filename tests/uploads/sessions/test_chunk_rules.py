"""What a request may append, as a table of cases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from app.catalog.schema.records import User
from app.catalog.schema.upload_records import Upload, UploadState
from app.uploads.errors import UploadError, UploadTooLarge
from app.uploads.sessions.chunk_rules import plan_chunk, repeats_last_chunk
from app.uploads.sessions.errors import InconsistentLength, OffsetMismatch
from app.uploads.sessions.new_session import build_session, choose_filename
from app.uploads.sessions.session_values import NewUpload, UploadCaller, UploadChunk, UploadProtocol
from tests.uploads.sessions.session_place import DATES, PERMISSION, make_user

LIMIT = 1000


@pytest.fixture(scope="module")
def user() -> User:
    return make_user()


@pytest.fixture(scope="module")
def session(user: User) -> Upload:
    new = NewUpload(UploadProtocol.TUS, None, DATES, filename="photo.jpg")
    session = build_session(UploadCaller(user, None, PERMISSION), new, LIMIT, timedelta(hours=1))
    return replace(session, state=UploadState.RECEIVING, offset=10)


@pytest.mark.parametrize(
    ("length", "chunk", "planned", "ends"),
    [
        # (known length, request) -> (length, highest end), and whether the upload is complete at that end
        (None, UploadChunk(10), (None, LIMIT), False),
        (None, UploadChunk(10, 5), (None, LIMIT), False),
        (None, UploadChunk(10, 5, length=15), (15, 15), True),
        (None, UploadChunk(10, 0, length=10), (10, 10), True),
        (None, UploadChunk(10, 5, is_last=True), (15, 15), True),
        (None, UploadChunk(10, is_last=True), (None, LIMIT), True),
        (15, UploadChunk(10, 5), (15, 15), True),
        (15, UploadChunk(10), (15, 15), True),
        (15, UploadChunk(10, 5, is_last=True), (15, 15), True),
        (15, UploadChunk(10, 5, is_last=False), (15, 15), False),
        (15, UploadChunk(10, 5, length=15), (15, 15), True),
        (LIMIT, UploadChunk(10, LIMIT - 10), (LIMIT, LIMIT), True),
    ],
)
def test_what_may_be_appended(
    session: Upload, length: int | None, chunk: UploadChunk, planned: tuple[int | None, int], ends: bool
) -> None:
    plan = plan_chunk(replace(session, length=length), chunk, LIMIT)
    assert (plan.length, plan.end) == planned
    assert plan.is_complete(chunk, plan.end) is ends
    plan.check(plan.end)


@pytest.mark.parametrize(
    ("length", "chunk", "error"),
    [
        (None, UploadChunk(9, 5), OffsetMismatch),
        (None, UploadChunk(11, 5), OffsetMismatch),
        (15, UploadChunk(0, 15, length=99), OffsetMismatch),
        (15, UploadChunk(10, 6), InconsistentLength),
        (15, UploadChunk(10, 5, length=16), InconsistentLength),
        (15, UploadChunk(10, 4, is_last=True), InconsistentLength),
        (None, UploadChunk(10, 4, is_last=True, length=15), InconsistentLength),
        (None, UploadChunk(10, 0, length=9), InconsistentLength),
        (None, UploadChunk(10, 6, length=15), InconsistentLength),
        (None, UploadChunk(10, LIMIT), UploadTooLarge),
        (None, UploadChunk(10, 5, length=LIMIT + 1), UploadTooLarge),
        (None, UploadChunk(10, 5, length=10 * 1024**4), UploadTooLarge),
    ],
)
def test_what_may_not(session: Upload, length: int | None, chunk: UploadChunk, error: type[UploadError]) -> None:
    with pytest.raises(error):
        plan_chunk(replace(session, length=length), chunk, LIMIT)


def test_a_body_past_the_end_is_refused(session: Upload) -> None:
    with pytest.raises(InconsistentLength):
        plan_chunk(replace(session, length=15), UploadChunk(10), LIMIT).check(16)
    with pytest.raises(UploadTooLarge):
        plan_chunk(session, UploadChunk(10), LIMIT).check(LIMIT + 1)
    plan = plan_chunk(replace(session, length=15), UploadChunk(10, is_last=True), LIMIT)
    assert not plan.is_complete(UploadChunk(10, is_last=True), 14)
    with pytest.raises(InconsistentLength):
        plan.check_end(UploadChunk(10, is_last=True), 14)


@pytest.mark.parametrize(
    ("chunk", "repeats"),
    [
        (UploadChunk(10, 0), True),
        (UploadChunk(4, 6), True),
        (UploadChunk(4, 6, is_last=True), True),
        (UploadChunk(4, 6, is_last=False), False),
        (UploadChunk(4, 5), False),
        (UploadChunk(4), False),
        (UploadChunk(0, 99), False),
    ],
)
def test_which_request_repeats_the_last_one(session: Upload, chunk: UploadChunk, repeats: bool) -> None:
    assert repeats_last_chunk(replace(session, state=UploadState.COMPLETE), chunk) is repeats


@pytest.mark.parametrize(
    ("filename", "field", "content_type", "chosen"),
    [
        ("a.jpg", "b.png", "video/mp4", "a.jpg"),
        ("a", "b.png", "video/mp4", "b.png"),
        ("a", None, "image/jpeg", "a.jpeg"),
        (None, None, "video/quicktime; codecs=x", "upload.mov"),
        (None, None, None, "upload"),
        ("../../etc/passwd.jpg", None, None, "passwd.jpg"),
    ],
)
def test_the_name_that_tells_the_type(
    filename: str | None, field: str | None, content_type: str | None, chosen: str
) -> None:
    fields = {} if field is None else {"filename": field}
    new = NewUpload(UploadProtocol.IETF, None, fields, filename=filename, content_type=content_type)
    assert choose_filename(new) == chosen
