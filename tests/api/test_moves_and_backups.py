"""What administrators are told of backups and of the latest move, while the command line makes both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.stacks import Database
from tests.real.uploads import fresh_bytes, uploaded

DATABASES: tuple[Database, Database] = ("sqlite", "postgresql")


@pytest.mark.parametrize("database", DATABASES)
def test_a_move_and_a_backup_are_told_step_by_step(start_service: StartService, database: Database) -> None:
    service = start_service("s3", database=database)
    admin = service.people.add(is_admin=True)
    with service.client(admin) as client:
        for size in (1000, 2000, 3000):
            uploaded(client, fresh_bytes(size))
        assert client.get("/api/server/move").json() is None
        assert client.get("/api/server/backups").json() == {"backups": [], "everyHours": 0.0, "keep": 14}
    service.settings["IMMICH_STORAGE_ENGINE"] = "local"
    service.restart()
    with service.client(admin) as client:
        source, occupied = _occupy_a_target(service)
        move = _migrate(service, client, "run", status=1)
        assert (move["target"], move["files"], move["bytes"], move["finishedAt"]) == ("local", 3, 6000, None)
        assert (move["unsweptFiles"], move["unsweptBytes"]) == (0, 0)
        (problem,) = move["problems"]
        assert (problem["path"], problem["problem"].partition(":")[0]) == (source, "occupied")
        assert {each["state"]: (each["files"], each["problems"]) for each in move["states"]} == {
            problem["state"]: (1, 1),
            "verified": (2, 0),
        }

        occupied.unlink()
        assert [each["state"] for each in _migrate(service, client, "run")["states"]] == ["verified"]
        move = _migrate(service, client, "switch")
        assert move["states"] == [{"state": "switched", "files": 3, "bytes": 6000, "problems": 0}]

        assert service.run("backup", "create").returncode == 0
        (backup,) = client.get("/api/server/backups").json()["backups"]
        assert backup["path"].endswith(f"/backups/{backup['name']}")
        assert backup["createdAt"].endswith("Z")
        assert backup["size"] > 0


def test_only_administrators_are_told(service: Service, account: Account) -> None:
    keys = {
        account.key: 403,
        service.people.add_key(service.people.add(is_admin=True).id, ("asset.read",)): 403,
    }
    for path in ("/api/server/move", "/api/server/backups"):
        for key, status in keys.items():
            with service.client() as client:
                assert client.get(path, headers={"x-api-key": key}).status_code == status
                assert client.get(path).status_code == 401


def _migrate(service: Service, client: httpx.Client, step: str, *, status: int = 0) -> dict[str, Any]:
    """Run a step of a move to the disk, and return what is told then."""
    done = service.run("migrate", step, "--to", "local")
    assert done.returncode == status, done.stdout + done.stderr
    return client.get("/api/server/move").json()


def _occupy_a_target(service: Service) -> tuple[str, Path]:
    """Write other bytes where an original is to go; returns its source and this file."""
    source = next(path for path in service.stack.objects() if "/upload/" in path and not path.endswith(".immich"))
    target = service.stack.media / "upload" / source.partition("/upload/")[2]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"other bytes")
    return source, target
