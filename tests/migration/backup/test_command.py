"""`mediavault backup`, and scheduled backups of the service: killed at every step, and with several replicas."""

from __future__ import annotations

import gzip
import shutil
import signal
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.api.consistency import assert_consistent
from tests.migration.commands import mediavault
from tests.real.notes import Note
from tests.real.postgres import Postgres
from tests.real.service import Service
from tests.real.spawning import spawner
from tests.real.stacks import ENGINES, Engine, Stack, Stacks
from tests.real.uploads import fresh_bytes, uploaded
from tests.real.waiting import eventually

KILLED_BACKUP = "tests.migration.backup.killed_backup"
MOST_STEPS = 40
CAMPAIGN_SECONDS = 240
"""For many processes one after another, on a machine that does other things too."""
HOURS = 0.0003
"""Hours between two backups: 1.08 seconds."""


@pytest.fixture(scope="module", params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Engine:
    return request.param


@pytest.fixture(scope="module")
def service(stack: Engine, stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A stopped service with a photo."""
    with Service(stacks.create(stack, tmp_path_factory.mktemp("command") / "service")) as running:
        with running.client(running.people.add()) as client:
            uploaded(client, PHOTO)
        running.stop()
        yield running


PHOTO = fresh_bytes(30_000)


def backups(stack: Stack) -> list[str]:
    return [path for path in stack.objects() if path.endswith(".jsonl.gz")]


def told(service: Service, *arguments: str) -> str:
    ended = mediavault(service, "backup", *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def refused(service: Service, *arguments: str) -> str:
    """The one line with the reason of a refusal."""
    ended = mediavault(service, "backup", *arguments)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def fetch(service: Service, path: str, to: Path) -> Path:
    """A copy of a stored object."""
    bucket = service.stack.bucket
    if bucket is None:
        shutil.copyfile(path, to)
    else:
        key = path.removeprefix(f"s3://{bucket.name}/")
        to.write_bytes(bucket.server.administration.get_object(Bucket=bucket.name, Key=key)["Body"].read())
    return to


@pytest.fixture
def new_host(service: Service, stack: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Service:
    """The same media location, and a database without tables."""
    postgres: Postgres | None = request.getfixturevalue("postgres") if stack == "s3" else None
    db_url = postgres.create_database() if postgres else f"sqlite:///{tmp_path}/new/catalogue.db"
    host = Stack(service.stack.engine, tmp_path, db_url, service.stack.bucket)
    return Service(host, settings={"IMMICH_MEDIA_LOCATION": str(service.stack.media)})


def test_a_library_comes_back_on_a_new_host(service: Service, new_host: Service, tmp_path: Path) -> None:
    created = service.run("backup", "create")
    assert created.returncode == 0, created.stderr
    path = created.stdout.strip()
    assert path in told(service, "list")
    if service.stack.bucket is None:
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    copy = fetch(service, path, tmp_path / "copy.jsonl.gz")
    assert "catalogue is not empty" in refused(service, "restore", str(copy))
    short = tmp_path / "short.jsonl.gz"
    short.write_bytes(copy.read_bytes()[:-9])
    assert "ends too early; nothing was restored" in refused(new_host, "restore", str(short))
    foreign = tmp_path / "dump.sql.gz"
    foreign.write_bytes(gzip.compress(b"-- PostgreSQL database dump\n"))
    assert "no backup of mediavault" in refused(new_host, "restore", str(foreign))
    assert "there is no backup mediavault-x" in refused(new_host, "restore", "mediavault-x")

    told(new_host, "restore")  # the newest backup of the media location

    with new_host:
        with new_host.client(new_host.people.add()) as client:
            assert client.get("/api/server/ping").status_code == 200
        assert_consistent(service.stack)
    assert "not empty" in refused(new_host, "restore", path)
    assert "problems: none" in mediavault(new_host, "verify", "--checksums").stdout


def test_one_that_is_killed_leaves_no_half_backup(service: Service, tmp_path: Path, note: Note, stack: Engine) -> None:
    environment = {**service.environment, "MEDIAVAULT_BACKUP_KEEP": str(MOST_STEPS)}
    killed = 0
    for step in range(1, MOST_STEPS):
        program = (KILLED_BACKUP, str(step))
        ended = spawner().run(
            program, service.stack.folder, environment, within=CAMPAIGN_SECONDS, imports=(KILLED_BACKUP,)
        )
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        killed += 1
    else:
        raise AssertionError(f"more than {MOST_STEPS} steps")
    found = backups(service.stack)
    note(f"making a backup died at each of {killed} steps, and left {len(found) - 1} whole ones ({stack})")
    assert killed > 4
    for path in found:
        lines = gzip.decompress(fetch(service, path, tmp_path / "copy").read_bytes()).splitlines()
        assert b'"sha256"' in lines[-1], f"half a backup: {path}"
    assert {line.split()[-1] for line in told(service, "list").splitlines()} == set(found)


def test_of_many_replicas_one_makes_it(service: Service, stack: Engine, tmp_path: Path) -> None:
    """The service creates backups with the same private mode as the command."""
    replicas = [
        Service(
            service.stack,
            settings={"MEDIAVAULT_BACKUP_HOURS": str(HOURS), "MEDIAVAULT_BACKUP_KEEP": "4"},
        )
        for _ in range(3)
    ]
    before = set(backups(service.stack))
    seen: set[str] = set()

    def several() -> bool:
        seen.update(set(backups(service.stack)) - before)
        return len(seen) >= 4

    try:
        for replica in replicas:
            replica.launch()
        eventually(several, "four backups are made", within=CAMPAIGN_SECONDS)
    finally:
        for replica in replicas:
            replica.stop()
            replica.close()
    moments = sorted(made_at(path) for path in seen)
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert min(gaps) >= timedelta(hours=HOURS), [str(moment) for moment in moments]
    assert len(backups(service.stack)) <= 5, "four, and one that was just made"
    if service.stack.bucket is None:
        assert {stat.S_IMODE(Path(path).stat().st_mode) for path in backups(service.stack)} == {0o600}
    assert_consistent(service.stack)


def made_at(path: str) -> datetime:
    return datetime.strptime(path.rsplit("/", 1)[1], "mediavault-%Y%m%d-%H%M%S.%f.jsonl.gz").replace(tzinfo=UTC)
