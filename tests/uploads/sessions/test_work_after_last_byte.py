"""What the service does between the last byte of an upload and its answer, counted and compared with a plain upload of the last chunk."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

import pytest

from app.catalog.database.engine import Database
from app.storage.local.file_writer import PendingFile
from app.storage.local.resumable_file import ResumableFile
from app.storage.s3.protocol.client import S3Client
from app.uploads.body_stream import Receive
from app.uploads.ingest import UploadIngest
from app.uploads.sessions import active_requests
from app.uploads.sessions.session_values import UploadChunk
from tests.real.notes import Note
from tests.real.uploads import FORM_TAIL, FORM_TYPE, form_head
from tests.uploads.hooked_storage import UploadSender
from tests.uploads.sessions.session_place import SessionPlace, make_photo, split

MIB = 1024 * 1024
LAST_BYTES = 2 * MIB
MORE = {
    # The last checkpoint makes the bytes durable before the commit does; the credential and the quota are asked again.
    "local": Counter({"file open": 1, "file _sync": 1, "database read": 2}),
    # The part, whose number is reserved; Complete, and the check that the store has kept the object; the old tail is read and deleted, and
    # tails of processes that died are looked for.
    "s3": Counter(
        {
            "s3 upload_part": 1,
            "s3 complete": 1,
            "s3 head": 1,
            "s3 read_pieces": 1,
            "s3 delete": 1,
            "s3 list_page": 1,
            "database read": 2,
            "database write": 1,
        }
    ),
}
"""The calls that come on top of those of a plain upload of the last chunk."""


class WorkLog:
    """Counts calls from the moment that `is_counting` is set."""

    def __init__(self) -> None:
        self.is_counting = False
        self.calls: Counter[str] = Counter()

    def count(self, name: str) -> None:
        if self.is_counting:
            self.calls[name] += 1

    def take(self) -> Counter[str]:
        """The calls so far; the log counts no more."""
        self.is_counting = False
        calls, self.calls = self.calls, Counter()
        return calls

    def receive(self, body: bytes) -> Receive:
        """Hands over `body`, and lets the log count from its last byte."""
        messages = list(split(body))
        sender = UploadSender(messages)

        async def receive() -> dict[str, Any]:
            message = await sender()
            self.is_counting = sender.calls >= len(messages)
            return message

        return receive


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> WorkLog:
    log = WorkLog()

    def observe(owner: type, name: str, shown: str) -> None:
        original = getattr(owner, name)

        def observed(*args: Any, **kwargs: Any) -> Any:
            log.count(shown)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, observed)

    monkeypatch.setattr(active_requests, "POLL_SECONDS", 3600.0)  # its reads belong to no request
    observe(Database, "read", "database read")
    observe(Database, "query", "database read")
    observe(Database, "write", "database write")
    observe(Database, "transact", "database write")
    for name, _ in inspect.getmembers(S3Client, inspect.isfunction):
        if not name.startswith("_") and name != "add_prefix":
            observe(S3Client, name, f"s3 {name}")
    for name in ("write", "_sync", "_rename", "copy_from"):
        observe(PendingFile, name, f"file {name}")
    observe(ResumableFile, "open", "file open")
    return log


async def test_the_answer_takes_little_more_work_than_a_plain_upload_of_the_last_chunk(
    log: WorkLog, place: SessionPlace, note: Note
) -> None:
    """Nothing is copied, and of the earlier bytes only a tail is read again."""
    data = make_photo(12 * MIB)
    status = await place.create(len(data))
    await place.send(status.id, 0, data[:-LAST_BYTES])
    chunk = UploadChunk(len(data) - LAST_BYTES, LAST_BYTES)
    status = await place.sessions.append(place.caller, status.id, chunk, log.receive(data[-LAST_BYTES:]))
    resumable = log.take()
    await place.assert_stored(status, data)

    process = place.processes[0]
    body = form_head() + make_photo(LAST_BYTES, seed=1) + FORM_TAIL
    ingest = UploadIngest(process.catalog, process.storage, place.settings)
    # Of unknown length, so that it is streamed: the file of a small body is held in memory, and costs still less.
    await ingest.upload(place.user, FORM_TYPE, None, None, log.receive(body))
    plain = log.take()

    note(f"work after the last byte ({place.stack.engine}): {dict(resumable)}; of a plain upload: {dict(plain)}")
    assert resumable - plain <= MORE[place.stack.engine]
