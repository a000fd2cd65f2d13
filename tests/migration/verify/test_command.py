"""`mediavault verify` on the command line: exit status and output."""

from __future__ import annotations

import csv
import io
import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from app.catalog.catalog import Catalog
from app.migration.consistency.consistency_check import ConsistencyCheck
from app.storage.errors import StorageUnavailable
from app.storage.service import StorageService
from tests.migration.commands import mediavault
from tests.real.service import Service
from tests.real.stacks import Engine, Stacks
from tests.real.uploads import fresh_bytes, uploaded


@pytest.fixture(scope="module")
def service(stack: Engine, stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with two photos, stopped, because the tests damage its files."""
    with Service(stacks.create(stack, tmp_path_factory.mktemp("command") / "service")) as running:
        with running.client(running.people.add()) as client:
            for _ in range(2):
                uploaded(client, fresh_bytes(20_000))
        running.stop()
        yield running


def verify(service: Service, *options: str, status: int) -> subprocess.CompletedProcess[str]:
    ended = mediavault(service, "verify", *options)
    assert ended.returncode == status, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


def put(service: Service, key: str, data: bytes) -> str:
    """Store an object without a row; returns its path."""
    bucket = service.stack.bucket
    if bucket is None:
        path = service.stack.media / key
        path.write_bytes(data)
        return str(path)
    bucket.server.administration.put_object(Bucket=bucket.name, Key=f"{bucket.prefix}/{key}", Body=data)
    return f"s3://{bucket.name}/{bucket.prefix}/{key}"


def test_a_script_sees_how_it_went(service: Service) -> None:
    ended = verify(service, "--checksums", status=0)
    assert "problems: none" in ended.stdout
    assert "2 files, 40000 bytes read" in ended.stdout
    assert "reading files" in ended.stderr, "plain lines, as this is no terminal"
    assert "\x1b" not in ended.stdout + ended.stderr

    orphan = put(service, f"upload/nobody's {secrets.token_hex(4)}.jpg", b"12345")
    ended = verify(service, status=1)
    assert f"orphan                                              5  {orphan}\n" in ended.stdout
    assert "problems: 1 orphan\n" in ended.stdout

    document = json.loads(verify(service, "--format", "json", status=1).stdout)
    assert [(each["problem"], each["path"], each["found_size"]) for each in document["findings"]] == [
        ("orphan", orphan, 5)
    ]
    assert document["summary"]["problems"] == {"orphan": 1}

    ended = verify(service, "--quarantine", "--format", "csv", status=3)
    rows = list(csv.DictReader(io.StringIO(ended.stdout)))
    assert [(row["problem"], row["path"], row["repair"]) for row in rows] == [("orphan", orphan, "quarantined")]

    verify(service, "--repair", status=0)


def test_what_cannot_be_carried_out_is_one_line_and_another_status(service: Service) -> None:
    assert verify(service, "--format", "xml", status=2).stderr.count("\n") == 1
    before = service.settings["DB_URL"]
    service.settings["DB_URL"] = "sqlite:////proc/nowhere/catalogue.db"
    try:
        ended = verify(service, status=2)
    finally:
        service.settings["DB_URL"] = before
    assert ended.stdout == ""
    assert ended.stderr.startswith("mediavault: DB_URL")
    assert ended.stderr.count("\n") == 1


def test_a_report_that_breaks_off_is_still_one_document(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    orphan = put(service, f"upload/nobody's {secrets.token_hex(4)}.jpg", b"12345")

    async def away(*_: object) -> None:
        raise StorageUnavailable("upload", "test", "does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(ConsistencyCheck, "_check_files", away)
        ended = verify(service, "--format", "json", status=2)

    document = json.loads(ended.stdout)
    assert [each["path"] for each in document["findings"]] == [orphan]
    assert document["error"] == "upload: does not answer"
    assert "summary" not in document
    verify(service, "--quarantine", status=3)


def test_what_is_logged_is_not_between_the_answers(stack: Engine, stacks: Stacks, tmp_path: Path) -> None:
    """A backup with a name in the future is logged as a warning."""
    new = Service(stacks.create(stack, tmp_path))
    first = new.run("backup", "create").stdout.strip()

    async def copy(_: Catalog, storage: StorageService) -> None:
        await storage.copy(first, re.sub(r"mediavault-\d{8}", "mediavault-29991231", first))

    new.people.call_with_storage(copy)
    created = new.run("backup", "create")
    ended = new.run("verify", "--format", "json")
    new.close()

    assert created.stdout.count("\n") == 1, created.stdout
    assert "a name of the future" in created.stderr
    assert json.loads(ended.stdout)["findings"] == []


def test_a_media_location_that_is_not_ours_is_not_full_of_lost_files(service: Service, tmp_path: Path) -> None:
    if service.stack.bucket is None:
        away = service.stack.media.with_name("unmounted")
        service.stack.media.rename(away)
        try:
            ended = verify(service, status=2)
        finally:
            shutil.rmtree(service.stack.media, ignore_errors=True)
            away.rename(service.stack.media)
    else:
        marker = f"{service.stack.bucket.prefix}/.immich"
        client, name = service.stack.bucket.server.administration, service.stack.bucket.name
        kept = client.get_object(Bucket=name, Key=marker)["Body"].read()
        client.delete_object(Bucket=name, Key=marker)
        try:
            ended = verify(service, status=2)
        finally:
            client.put_object(Bucket=name, Key=marker, Body=kept)
    assert "looks unmounted" in ended.stderr
    assert "missing  " not in ended.stdout


def test_a_path_in_no_place_is_named(service: Service) -> None:
    engine = create_engine(service.stack.db_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        path = connection.execute(text("SELECT min(path) FROM file")).scalar_one()
        connection.execute(text("UPDATE file SET path = 's3://else/where.jpg' WHERE path = :path"), {"path": path})
    try:
        document = json.loads(verify(service, "--format", "json", status=1).stdout)
    finally:
        with engine.begin() as connection:
            connection.execute(text("UPDATE file SET path = :path WHERE path = 's3://else/where.jpg'"), {"path": path})
        engine.dispose()
    assert {(each["problem"], each["path"]) for each in document["findings"]} == {
        ("unplaced", "s3://else/where.jpg"),
        ("orphan", path),
    }
