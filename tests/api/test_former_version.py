"""A process of the former version works beside one of this version, which upgrades the tables while both serve."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from tests.api.test_processes import SteadyClient
from tests.real.accounts import Account
from tests.real.sample_media import make_jpeg
from tests.real.secrets import record_secret
from tests.real.service import ROOT, WORKING, Service
from tests.real.stacks import ENGINES, Engine, Stacks
from tests.real.uploads import fresh_bytes, uploaded
from tests.real.waiting import eventually

FIRST_NEWER_REVISION = "0016"
"""The former version is the program of the last commit before this revision of the schema."""
DERIVED_SECONDS = 60


@pytest.fixture(scope="module")
def former_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the former version's package."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True, timeout=60).stdout

    head = "app/catalog/migrations/__init__.py"
    newer = git("log", "--format=%H", f'-G^HEAD = "{FIRST_NEWER_REVISION}"$', "--", head).split()
    if not newer:
        pytest.skip("the repository's history is not here")
    folder = tmp_path_factory.mktemp("former")
    archive = git("archive", f"{newer[-1].decode()}^", "app")
    # `tarfile` extracts by a filter that Python 3.11.2, which Debian has, lacks, and newer ones require.
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True, timeout=60)
    return folder


@pytest.fixture(params=ENGINES)
def former(request: pytest.FixtureRequest, former_code: Path, stacks: Stacks, tmp_path: Path) -> Iterator[Service]:
    """A service of the former version, on tables that it created."""
    engine: Engine = request.param
    stack = stacks.create(engine, tmp_path / "service", tables=False)
    with Service(stack, settings={"PYTHONPATH": str(former_code)}, spawned=False, program=WORKING) as service:
        yield service


def create_first_account(former: Service) -> Account:
    """By the former program: this version's would upgrade the tables."""
    assert former.run("user", "add", "me@example.org", "--admin", stdin="").returncode == 0
    key = record_secret(former.run("key", "add", "me@example.org", stdin="").stdout.strip())
    with former.client() as client:
        user = client.get("/api/users/me", headers={"x-api-key": key}).json()
    return Account(UUID(user["id"]), user["email"], key)


def test_processes_of_two_versions_serve_one_library(former: Service) -> None:
    account = create_first_account(former)
    with former.client(account) as client:
        photo = uploaded(client, make_jpeg(64, 48))
        doomed = uploaded(client, data := fresh_bytes(100_000))
        steady = SteadyClient(former, f"/api/assets/{doomed}/original", account.headers)
        with steady.running(), Service(former.stack, program=WORKING) as newer:
            with newer.client(account) as other:
                assert other.get(f"/api/assets/{doomed}/original").content == data
                late = uploaded(client, fresh_bytes(50_000))
                assert other.get(f"/api/assets/{late}").status_code == 200
                later = uploaded(other, make_jpeg(48, 64))
                for each, asset in ((client, later), (other, photo)):
                    eventually(
                        lambda each=each, asset=asset: each.get(f"/api/assets/{asset}/thumbnail").status_code == 200,
                        "each version serves the other's thumbnail",
                        within=DERIVED_SECONDS,
                    )
                _check_sessions(client, other, account)
            assert set(steady.outcomes) == {"200"}
            former_log = former.log
    assert "Traceback" not in former_log, former_log


def _check_sessions(former: httpx.Client, newer: httpx.Client, account: Account) -> None:
    """A session of a key is unknown to the former version, which knows no permissions of a session."""
    made = newer.post("/api/auth/sign-in-key", json={"apiKey": account.key})
    assert made.status_code == 201, made.text
    token = record_secret(made.json()["accessToken"])
    with httpx.Client(headers={"x-immich-session-token": token}, timeout=30) as session:
        assert session.get(f"{newer.base_url}/api/users/me").status_code == 200
        assert session.get(f"{former.base_url}/api/users/me").status_code == 401
