"""`mediavault immich follow` waits while Immich moves files, or its database or its disk is away, and goes on then. What was moved or
deleted is taken over at once if a person accepts it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from app.catalog.catalog import Catalog
from tests.immich.conftest import MakeInstallation, MakeTakeover
from tests.immich.playing import Player
from tests.immich.tables import Generation
from tests.immich.takeover import Takeover
from tests.real.waiting import eventually

WITHIN_SECONDS = 60.0
MOVE = """INSERT INTO move_history ("entityId", "pathType", "oldPath", "newPath") VALUES (%s, 'original', %s, %s)"""


class Follower:
    """`mediavault immich follow` in an interpreter of its own; `output` holds what it has written so far."""

    def __init__(self, takeover: Takeover, *more: str) -> None:
        roots = [f"--media-root={root}" for root in takeover.installation.media_roots]
        address = ("--database-url", takeover.installation.url)
        command = [sys.executable, "-m", "app.cli", "immich", "follow", "--every", "5", *address, *roots, *more]
        self.output = ""
        self.process = subprocess.Popen(
            command,
            cwd=takeover.service.stack.folder,
            env=takeover.service.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def until_it_says(self, text: str, times: int = 1) -> None:
        eventually(lambda: self._has_said(text, times), f"follow says {text!r}", within=WITHIN_SECONDS)

    def _has_said(self, text: str, times: int) -> bool:
        assert self.process.poll() is None, self.output
        return self.output.count(text) >= times

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._reading.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def follow(takeover: Takeover, *more: str) -> Iterator[Follower]:
    follower = Follower(takeover, *more)
    try:
        yield follower
    finally:
        follower.close()


@pytest.fixture(scope="module")
def takeover(make_takeover: MakeTakeover) -> Takeover:
    """Imported, and not served. The tests leave it as they find it."""
    made = make_takeover("v2-local", assets=30)
    made.report("import")
    return made


def test_it_waits_for_moves(takeover: Takeover, seed: int) -> None:
    asset_id, path = choose(takeover)
    takeover.installation.execute(MOVE, [asset_id, path, f"{path}.moved.jpg"])
    with follow(takeover) as follower:
        follower.until_it_says("waiting: Immich has 1 running or interrupted moves")
        added = Player(takeover.installation, seed).add(owner="ada")
        takeover.installation.execute("DELETE FROM move_history")
        follower.until_it_says("assets: 1 new")
        assert follower.output.count("waiting") == 1, follower.output
    assert added in list_assets(takeover)


def test_it_waits_for_the_disk(takeover: Takeover) -> None:
    host = takeover.installation.host
    away = host.with_name("away")
    host.rename(away)
    try:
        with follow(takeover) as follower:
            follower.until_it_says("is no folder")
            host.mkdir()
            follower.until_it_says("is it mounted?")
            host.rmdir()
            away.rename(host)
            Player(takeover.installation, 1).favourite()
            follower.until_it_says("1 changed")
    finally:
        if away.exists():
            away.rename(host)


def test_it_outlives_a_restart_of_the_database(takeover: Takeover, seed: int) -> None:
    """Between two looks, and in the middle of one."""
    player = Player(takeover.installation, seed)
    with follow(takeover) as follower:
        player.favourite()
        follower.until_it_says("1 changed")
        locking = psycopg.connect(takeover.installation.url)
        try:
            locking.execute("LOCK TABLE asset")  # the next look waits for it, and is broken off
            eventually(lambda: count_waiting(takeover) == 1, "a look waits", within=WITHIN_SECONDS)
            with refuse_connections(takeover.installation.url):
                follower.until_it_says("waiting: Immich's database")
        finally:
            locking.close()
        player.favourite()
        follower.until_it_says("1 changed", times=2)


def count_waiting(takeover: Takeover) -> int:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'mediavault' AND wait_event_type = 'Lock'"
    return takeover.installation.execute(waiting)[0][0]


@contextmanager
def refuse_connections(url: str) -> Iterator[None]:
    """As while the server restarts: all connections end, and there are no new ones."""
    name = url.partition("?")[0].rpartition("/")[2]
    alter = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(url.replace(f"/{name}", "/postgres", 1), autocommit=True) as connection:
        connection.execute(alter.format(sql.Identifier(name), sql.SQL("false")))
        try:
            ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            connection.execute(ending, [name])
            yield
        finally:
            connection.execute(alter.format(sql.Identifier(name), sql.SQL("true")))


@pytest.mark.parametrize("command", [("import",), ("follow", "--once")], ids=["import", "follow"])
def test_accepted_moves_take_the_path_that_holds_the_file(takeover: Takeover, command: tuple[str, ...]) -> None:
    asset_id, path = choose(takeover)
    moved = f"{path}.{command[0]}.jpg"
    source, target = map(takeover.installation.to_host, (path, moved))
    source.rename(target)
    takeover.installation.execute(MOVE, [asset_id, path, moved])
    takeover.installation.execute('UPDATE asset SET "isFavorite" = "isFavorite" WHERE id = %s', [asset_id])
    refused = takeover.run(*command)
    assert (refused.returncode, "1 running or interrupted moves" in refused.stderr) == (2, True)

    report = takeover.report(*command, "--accept-moves")

    assert report["problems"]["interrupted move"]["count"] == 1
    assert read_path(takeover, asset_id) == target
    takeover.installation.execute("DELETE FROM move_history")
    takeover.installation.execute('UPDATE asset SET "originalPath" = %s WHERE id = %s', [moved, asset_id])
    assert "interrupted move" not in takeover.report("follow", "--once")["problems"]
    assert read_path(takeover, asset_id) == target


def test_accepted_vanished_assets_go_to_the_trash(make_takeover: MakeTakeover) -> None:
    takeover = make_takeover("v2-local", assets=30)
    takeover.report("import")
    before = list_assets(takeover)
    kept = takeover.installation.plain[:5]
    takeover.installation.execute("DELETE FROM asset WHERE id <> ALL(%s)", [kept])
    refused = takeover.run("import")
    assert (refused.returncode, "--accept-vanished" in refused.stderr) == (2, True)
    assert list_trashed(takeover) < before - set(kept), "nothing went to the trash"

    takeover.report("import", "--accept-vanished")

    assert list_assets(takeover) == before, "no row is removed"
    assert list_trashed(takeover) >= before - set(kept)
    assert takeover.report("import")["trashed"] == 0


def test_another_database_closes_no_account(make_takeover: MakeTakeover, make_installation: MakeInstallation) -> None:
    takeover = make_takeover("v2-local", assets=3)
    takeover.report("import")
    other = Takeover(make_installation(Generation.V2, assets=3, number=1), takeover.service)
    before = list_assets(takeover)
    for command in (("import", "--dry-run"), ("import",), ("follow", "--once")):
        ended = other.run(*command)
        assert (ended.returncode, "none of the" in ended.stderr) == (2, True), ended.stderr
    assert list_assets(takeover) == before
    takeover.service.start()
    with takeover.client("ada") as client:
        assert client.get("/api/users/me").status_code == 200
    takeover.service.stop()


def choose(takeover: Takeover) -> tuple[UUID, str]:
    """An upload with its path, as in Immich's database."""
    rows = 'SELECT id, "originalPath" FROM asset WHERE id = ANY(%s) AND "libraryId" IS NULL ORDER BY id'
    return takeover.installation.execute(rows, [takeover.installation.plain])[0]  # pyright: ignore[reportReturnType]


def list_assets(takeover: Takeover) -> set[UUID]:
    async def read(catalog: Catalog) -> set[UUID]:
        return set(await catalog.vanished_assets.get_page(UUID(int=0), 100_000))

    return takeover.service.people.call(read)


def list_trashed(takeover: Takeover) -> set[UUID]:
    async def read(catalog: Catalog) -> set[UUID]:
        found = [
            await catalog.assets.get(each) for each in await catalog.vanished_assets.get_page(UUID(int=0), 100_000)
        ]
        return {asset.id for asset in found if asset is not None and asset.deleted_at is not None}

    return takeover.service.people.call(read)


def read_path(takeover: Takeover, asset_id: UUID) -> Path:
    async def read(catalog: Catalog) -> str:
        asset = await catalog.assets.get(asset_id)
        assert asset is not None
        return asset.file.path

    return Path(takeover.service.people.call(read))
