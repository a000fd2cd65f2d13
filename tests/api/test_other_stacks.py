"""The two stacks that no other test uses, from upload to sweep: a local folder with PostgreSQL, and S3 with SQLite."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.api.consistency import assert_consistent, is_marker
from tests.api.start_service import StartService
from tests.real.stacks import ENGINES, USUAL, Database, Engine
from tests.real.sweeping import sweep_everything
from tests.real.uploads import fresh_bytes, upload, uploaded

OTHER = [(engine, database) for engine in ENGINES for database in get_args(Database) if database != USUAL[engine]]


@pytest.mark.parametrize(("engine", "database"), OTHER)
def test_the_whole_life_of_an_asset(start_service: StartService, engine: Engine, database: Database) -> None:
    service = start_service(engine, database=database)
    kept_bytes, gone_bytes = fresh_bytes(9 * 1024 * 1024), fresh_bytes(50_000)
    with service.client(service.people.add()) as client:
        kept, gone = uploaded(client, kept_bytes), uploaded(client, gone_bytes)
        again = upload(client, gone_bytes)
        assert (again.status_code, again.json()["id"]) == (200, gone)
        assert {asset["id"] for asset in client.get("/api/assets").json()["items"]} == {kept, gone}

        whole = client.get(f"/api/assets/{kept}/original")
        part = client.get(f"/api/assets/{kept}/original", headers={"range": "bytes=5000000-5000999"})
        assert (whole.status_code, whole.content == kept_bytes) == (200, True)
        assert (part.status_code, part.content == kept_bytes[5_000_000:5_001_000]) == (206, True)
        assert part.headers["content-range"] == f"bytes 5000000-5000999/{len(kept_bytes)}"

        assert client.request("DELETE", "/api/assets", json={"ids": [gone], "force": True}).status_code == 204
        sweep_everything(service)
        assert_consistent(service.stack, exact=True)
        assert [size for path, size in service.stack.objects().items() if not is_marker(path)] == [len(kept_bytes)]
        assert client.get(f"/api/assets/{gone}/original").status_code == 404

        service.restart()
        assert client.get(f"/api/assets/{kept}/original").content == kept_bytes
