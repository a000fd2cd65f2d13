"""Kills an import, and one who follows, right before and right after each of their transactions (some of them outside the long campaigns). The same
command then completes the work: the catalogue is as without the kill, and nothing of Immich's has changed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.immich.conftest import MakeInstallation
from tests.immich.installation import Installation
from tests.immich.killed_import import DyingOrder
from tests.immich.playing import Player
from tests.immich.tables import Generation
from tests.real.databases import DatabaseFactory, sqlite_path
from tests.real.notes import Note
from tests.real.spawning import spawner

KILLED_IMPORT = "tests.immich.killed_import"
RUN_SECONDS = 120.0
ASSETS = 30
SHORT_STRIDE = 6
MOST_TRANSACTIONS = 60

_COMPARED = {
    "user": "id, email, name, is_admin, quota, used, password_hash, profile_file_id",
    "api_key": "id, user_id, name, permissions, key_hash",
    "immich_key": "key_id",
    "immich_user": "user_id, password_hash",
    "library": "id, owner_id, name, import_paths, exclusion_patterns, is_foreign",
    "person": "id, owner_id, name, thumbnail_file_id",
    "file": "id, owner_id, kind, path, state, size, sha1, is_foreign",
    "asset": "id, owner_id, type, file_id, sidecar_id, checksum, original_file_name, file_created_at, local_date_time, is_favorite, visibility, "
    "duration, width, height, thumbhash, exif, live_photo_video_id, library_id, deleted_at IS NULL",
    "derivative": "asset_id, kind, file_id",
    "task": "asset_id, kind, state",
    "library_file": "asset_id, name, size, mtime_ns",
    "foreign_root": "path",
    "immich_source": "name, phase, after_id, users",
}


class KilledImports:
    """Runs `killed_import` in processes that the spawner forks."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        self._installation = installation
        self._folder = folder
        self._count = folder / "count"

    def run(self, db_url: str, *, is_follow: bool, transaction: int = 0, after: bool = False) -> tuple[int, int]:
        """The exit status (negative: the signal), and the number of transactions."""
        own = self._installation
        order = DyingOrder(db_url, own.url, own.media_roots, transaction, after, is_follow, str(self._count))
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self._folder), "LANG": "C.UTF-8"}
        program = (KILLED_IMPORT, json.dumps(asdict(order)))
        ended = spawner().run(program, self._folder, environment, within=RUN_SECONDS, imports=(KILLED_IMPORT,))
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr[-4000:]
        return ended.returncode, int(self._count.read_text())


@pytest.fixture
def installation(make_installation: MakeInstallation) -> Installation:
    return make_installation(Generation.V3, assets=ASSETS)


@pytest.fixture
def imports(installation: Installation, tmp_path: Path) -> KilledImports:
    return KilledImports(installation, tmp_path)


@pytest.mark.parametrize("is_follow", [False, True], ids=["import", "follow"])
def test_it_dies_at_every_transaction(
    installation: Installation, imports: KilledImports, database_factory: DatabaseFactory, tmp_path: Path, seed: int,
    note: Note, is_follow: bool, *, soak: bool,
) -> None:  # fmt: skip
    start = tmp_path / "start.db"
    database_factory.create("sqlite", start)
    if is_follow:
        assert imports.run(f"sqlite:///{start}", is_follow=False)[0] == 0
        player = Player(installation, seed)
        for _ in range(25):
            player.play()
    untouched = installation.fingerprint()
    usual = _copy(start, tmp_path / "usual.db")
    status, transactions = imports.run(usual, is_follow=is_follow)
    assert status == 0
    assert 5 < transactions < MOST_TRANSACTIONS
    expected = read_rows(usual)
    if not is_follow:
        assert count_links(usual) == len(_read_links(installation)), "photos whose videos come pages later are linked"
    stride = 1 if soak else SHORT_STRIDE

    moments = [(number, after) for number in range(1, transactions + 1) for after in (False, True)]
    for number, after in moments[seed % stride :: stride]:
        killed = _copy(start, tmp_path / "killed.db")
        where = f"{'after' if after else 'before'} transaction {number} of {transactions}"
        status, _ = imports.run(killed, is_follow=is_follow, transaction=number, after=after)
        assert status == -signal.SIGKILL, where
        assert imports.run(killed, is_follow=is_follow)[0] == 0, where
        found = read_rows(killed)
        for table, rows in expected.items():
            assert found[table] == rows, f"{where}: {table}"
    assert installation.fingerprint() == untouched
    note(
        f"{'follow' if is_follow else 'import'} was killed at {len(moments[seed % stride :: stride])} of {len(moments)} moments"
    )


def _read_links(installation: Installation) -> list[tuple[Any, ...]]:
    """Photos with videos whose file is there."""
    lost = installation.traps["lost video"]
    return installation.execute('SELECT id FROM asset WHERE "livePhotoVideoId" IS NOT NULL AND id <> %s', [lost])


def count_links(url: str) -> int:
    connection = sqlite3.connect(sqlite_path(url))
    try:
        return connection.execute("SELECT count(*) FROM asset WHERE live_photo_video_id IS NOT NULL").fetchone()[0]
    finally:
        connection.close()


def _copy(start: Path, to: Path) -> str:
    for file in (to, to.with_name(f"{to.name}-wal"), to.with_name(f"{to.name}-shm")):
        file.unlink(missing_ok=True)
    with sqlite3.connect(start) as source, sqlite3.connect(to) as target:
        source.backup(target)
    source.close()
    target.close()
    return f"sqlite:///{to}"


def read_rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """What the catalogue has, without what differs from run to run."""
    connection = sqlite3.connect(sqlite_path(url))
    try:
        return {
            table: sorted(connection.execute(f'SELECT {columns} FROM "{table}"').fetchall(), key=repr)
            for table, columns in _COMPARED.items()
        }
    finally:
        connection.close()
